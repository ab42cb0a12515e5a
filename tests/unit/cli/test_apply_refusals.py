"""`cdp-stream apply` judges a version by the one in force, before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cdp_stream.cli.apply import apply
from cdp_stream.config.topology import parse_topology
from cdp_stream.errors import TopologyError
from cdp_stream.pipeline import compile_topology
from cdp_stream.stages.identity import IdentityBarrier
from cdp_stream.stream.in_force import InForce

BUYERS = {"key": "buyers", "definition": "event('Order').count() >= 1"}
TOPOLOGY: dict[str, Any] = {
    "space": "shop",
    "sources": [{"name": "web", "topic": "events"}],
    "audiences": [BUYERS],
    "destinations": [{"name": "crm", "topic": "crm.out"}],
}


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """What `apply` says of a file, on a broker that cannot be reached, while TOPOLOGY is in force."""
    compiled = compile_topology(parse_topology(TOPOLOGY))

    async def in_force(*_: object) -> InForce:
        return InForce(compiled.version, compiled.topology, IdentityBarrier(retired=["gone"]))

    monkeypatch.setattr("cdp_stream.stream.in_force.read_in_force", in_force)
    monkeypatch.setenv("CDP_STREAM_KAFKA", "localhost:1")

    def said(**changed: Any) -> list[str]:
        (tmp_path / "topology.yaml").write_text(json.dumps({**TOPOLOGY, **changed}))
        error = CliRunner().invoke(apply, [str(tmp_path)]).exception
        assert isinstance(error, TopologyError), error
        return str(error).splitlines()

    return said


def test_an_audience_is_not_opened_to_anonymous_profiles(refusal: Any) -> None:
    assert [
        "topology: audiences[0].include_anonymous: the audience 'buyers' was declared without anonymous profiles, and "
        "cannot be opened to them; set it back to false, and declare another audience, with a key of its own, for both"
    ] == refusal(audiences=[{**BUYERS, "include_anonymous": True}])


def test_everything_that_cannot_be_is_said_at_once(refusal: Any) -> None:
    assert [
        "topology: destinations[0].kind: the destination crm is of the kind event; give the new one another name",
        "topology: traits[0].key: the key 'buyers' is that of an audience and is never used for anything else; "
        "choose another key",
        "topology: audiences[0].key: the key 'gone' was removed earlier and is never used again; choose another key",
    ] == refusal(
        traits=[{"key": "buyers", "definition": "event('Order').count()"}],
        audiences=[{**BUYERS, "key": "gone"}],
        destinations=[{"name": "crm", "topic": "crm.out", "kind": "list"}],
    )
