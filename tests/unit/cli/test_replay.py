"""`cdp-stream replay`: what it is given, and what it is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from cdp_stream.cli.main import main
from cdp_stream.cli.replay import replay

SMALL = "space: shop\nsources: [{name: web, topic: shop.events}]\n"
EVENTS = [
    {"type": "identify", "userId": "u-1", "traits": {"email": "a@example.org"}, "timestamp": "2026-01-01T00:00:00Z"},
    {"type": "track", "event": "Seen", "anonymousId": "a-1", "timestamp": "2026-01-01T00:01:00Z"},
    {"type": "identify"},
]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cdp-stream", *arguments])
    with pytest.raises(SystemExit) as leave:
        main()
    assert isinstance(leave.value.code, int)
    return leave.value.code


def replayed(topology: Path, events: str, out: Path, standard_input: bytes | None = None) -> dict[str, Any]:
    arguments = [str(topology), "--events", events, "--out", str(out), "--json"]
    result = CliRunner().invoke(replay, arguments, input=standard_input)
    assert 0 == result.exit_code, result.output
    answer: dict[str, Any] = orjson.loads(result.stdout)
    return answer


def test_the_same_events_give_the_same_result_from_any_file_and_from_a_pipe(tmp_path: Path) -> None:
    topology = tmp_path / "topology.yaml"
    topology.write_text(SMALL)
    raw = b"".join(orjson.dumps(event) + b"\n" for event in EVENTS)
    digests, profiles = set(), set()
    for name in ("one.jsonl", "another.jsonl"):
        (tmp_path / name).write_bytes(raw)
        digests.add(replayed(topology, str(tmp_path / name), tmp_path / "out")["digest"])
        profiles.add((tmp_path / "out" / "profiles.jsonl").read_bytes())
    digests.add(replayed(topology, "-", tmp_path / "out", raw)["digest"])
    profiles.add((tmp_path / "out" / "profiles.jsonl").read_bytes())
    assert (1, 1) == (len(digests), len(profiles))
    letter = orjson.loads((tmp_path / "out" / "dead_letters.jsonl").read_bytes())
    assert ("file", 0, 2) == tuple(letter["source"][key] for key in ("topic", "partition", "offset"))


@pytest.mark.parametrize(
    "given", [["--from-kafka", "--events", "-"], ["--compare"], ["--partitions", "0"], ["--events", "/no/such/file"]]
)
def test_wrong_usage_is_exit_code_2(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    assert 2 == run(monkeypatch, "replay", "topologies/ecommerce", *given)


@pytest.mark.parametrize(
    ("name", "value"), [("KAFKA", "nonsense"), ("KAFKA", "here:99999"), ("METRICS_PORT", "x"), ("NONE_SUCH", "1")]
)
@pytest.mark.parametrize(
    "command", [["worker"], ["worker", "--stage", "identity"], ["status"], ["replay", "--from-kafka"]]
)
def test_a_bad_setting_is_exit_code_3(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str, value: str, command: list[str]
) -> None:
    monkeypatch.setenv("CDP_STREAM_KAFKA", "localhost:1")
    monkeypatch.setenv(f"CDP_STREAM_{name}", value)
    assert 3 == run(monkeypatch, *command, "topologies/ecommerce")
    assert f"CDP_STREAM_{name}" in capfd.readouterr().err


def test_a_log_level_that_is_none_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2 == run(monkeypatch, "worker", "topologies/ecommerce", "--log-level", "loud")
