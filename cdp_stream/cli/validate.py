"""`cdp-stream validate`: is this topology fit for use, and if not, where and why."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import click

from cdp_stream.errors import TopologyError


@click.command()
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for a program to read.")
def validate(topology: Path, as_json: bool) -> None:
    """Check TOPOLOGY, a folder or its topology.yaml.

    One line for each problem; exit code 3 if there is any, else 0.
    """
    from cdp_stream.config.load import load_topology
    from cdp_stream.pipeline import compile_topology

    file = topology / "topology.yaml" if topology.is_dir() else topology
    try:
        loaded = load_topology(topology, os.environ)
        version = compile_topology(loaded, file=str(file)).version
    except TopologyError as error:
        if as_json:
            problems = [asdict(problem) for problem in error.problems]
            click.echo(json.dumps({"valid": False, "file": error.file, "problems": problems}))
        else:
            click.echo(str(error))
        raise SystemExit(error.exit_code) from None
    counts = {section: len(getattr(loaded, section)) for section in ("sources", "traits", "audiences", "destinations")}
    if as_json:
        click.echo(json.dumps({"valid": True, "file": str(file), "version": version, **counts}))
    else:
        summary = ", ".join(f"{count} {section}" for section, count in counts.items())
        click.echo(f"{file}: valid, version {version}: {summary}")
