"""A topology named on the command line, loaded and compiled."""

from __future__ import annotations

import os
from pathlib import Path

from cdp_stream.config.load import load_topology
from cdp_stream.pipeline import CompiledTopology, compile_topology


def load_compiled(path: Path) -> CompiledTopology:
    """The compiled topology of a folder or file. Raises TopologyError with every problem."""
    file = path / "topology.yaml" if path.is_dir() else path
    return compile_topology(load_topology(path, os.environ), str(file))
