"""A broker that is not there is one clear line and exit code 1, for every command that needs one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = [["status"], ["apply"], ["tail", "ledger"], ["dead-letters", "list"], ["dead-letters", "replay"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_broker_is_no_traceback(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "topology.yaml").write_text("space: shop\nsources: [{name: web, topic: events}]\n")
    done = subprocess.run(
        [sys.executable, "-m", "cdp_stream", *command, str(tmp_path)],
        env={**os.environ, "CDP_STREAM_KAFKA": "localhost:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (1, "", False) == (done.returncode, done.stdout, "Traceback" in done.stderr), done.stderr
    assert "CDP_STREAM_KAFKA=localhost:1: the broker could not be used" in done.stderr
