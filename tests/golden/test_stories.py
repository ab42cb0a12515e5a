"""The events of the example topologies are those that their stories tell, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdp_stream.testing.stories import STORIES

TOPOLOGIES = Path(__file__).parents[2] / "topologies"


@pytest.mark.parametrize("name", STORIES)
def test_the_file_holds_the_story(name: str) -> None:
    told = b"".join(line + b"\n" for line in STORIES[name]())
    assert told == (TOPOLOGIES / name / "events.jsonl").read_bytes()
