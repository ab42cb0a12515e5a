"""What somebody could send to harm a space: huge ids, nesting, storms of merges, everything due at one clock."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from cdp_stream.config.topology import parse_topology
from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.pipeline import compile_topology
from cdp_stream.stages import profile_work
from cdp_stream.stages.entries import ClockEntry, Slice, SourceSlice, records_crc
from cdp_stream.stages.orders import first_topology
from cdp_stream.stages.profile_shapes import ProfileStep
from cdp_stream.stages.profile_work import PartitionWork
from cdp_stream.stages.records import AUDIENCE_CHANGES, OutputRecord
from cdp_stream.testing import TopologyDriver
from cdp_stream.testing.local import LocalSpace

NOW = 1_767_225_600_000
HOUR_MS = 3_600_000
BASE: dict[str, Any] = {"space": "shop", "sources": [{"name": "web", "topic": "events"}]}
VIEW = {"type": "track", "event": "View"}


@pytest.mark.parametrize(
    ("value", "reason", "kept"),
    [
        (orjson.dumps({**VIEW, "userId": "x" * 1_000_000}), "too_large", 65_536),
        (orjson.dumps({**VIEW, "userId": "x" * 501}), "id_too_long", None),
        (orjson.dumps({**VIEW, "userId": "u", "messageId": "m" * 30_000}), "message_id_too_long", None),
        (
            b'{"type":"track","event":"x","userId":"u","properties":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_001,
            "too_deep",
            None,
        ),
        (b"[" * 30_000, "too_deep", None),
        (b'{"type":"track","event":"x","userId":1' + b"0" * 30_000 + b"}", "number_out_of_range", None),
        (b'{"type":"track","event":"x","userId":"\\ud800"}', "invalid_utf8", None),
    ],
)
def test_what_is_too_much_is_a_dead_letter_and_the_next_record_is_taken(
    value: bytes, reason: str, kept: int | None
) -> None:
    driver = TopologyDriver(BASE)
    driver.put(value)
    driver.put({**VIEW, "userId": "u-1"})
    letters = driver.take("dead_letters")
    assert [(reason, len(value))] == [(letter["reason"], letter["size"]) for letter in letters]
    if kept is not None:
        assert (True, (kept + 2) // 3 * 4) == (letters[0]["truncated"], len(letters[0]["value_base64"]))
    assert driver.profile("user_id:u-1") is not None
    driver.close()


def test_a_storm_of_merges_ends_at_the_caps_and_disturbs_nobody_else() -> None:
    identifiers = [{"type": "user_id"}, {"type": "anonymous_id", "limit": 5_000}]
    driver = TopologyDriver({**BASE, "identity": {"identifiers": identifiers}}, partitions=4, step_size=500)
    for number in range(400):
        driver.put({**VIEW, "anonymousId": f"a-{number}"})
    for number in range(400):
        driver.put({**VIEW, "anonymousId": f"a-{number}", "userId": "everybody"})
    for number in range(2_000):
        driver.put({**VIEW, "anonymousId": f"new-{number}", "userId": "everybody"})
    driver.put({**VIEW, "userId": "somebody"})
    victim, somebody = driver.profile("user_id:everybody"), driver.profile("user_id:somebody")
    assert victim is not None
    assert somebody is not None
    assert (100, 1_000) == (len(victim["absorbed"]), len(victim["external_ids"]))
    assert 1 == len(somebody["message_ids"])
    capped = [row for row in driver.take("ledger") if row["decision"] == "cap_reached"]
    assert {"Profile merge limit exceeded", "Identifier mapping limit exceeded"} == {row["violation"] for row in capped}
    driver.close()


def sent_by_one_clock(monkeypatch: pytest.MonkeyPatch, units: int, people: int) -> tuple[list[OutputRecord], list[int]]:
    """Everybody's window ends at one clock: what is told then, and how much of it each step holds."""
    monkeypatch.setattr(profile_work, "STEP_UNITS_MAX", units)
    definition = "event('View').within(1 hours).count() >= 1"
    audience = {"key": "active", "definition": definition, "include_anonymous": True}
    topology = compile_topology(parse_topology({**BASE, "audiences": [audience]}))
    outputs: list[OutputRecord] = []
    sizes: list[int] = []
    space = LocalSpace(1, outputs.append)
    space.take(0, NOW, first_topology(topology, NOW))
    events = [
        orjson.dumps({**VIEW, "anonymousId": f"a-{number}", "messageId": f"m-{number}"}) for number in range(people)
    ]
    records = [RawRecord(SourceRef("s", "s", 0, at), NOW, None, raw, True) for at, raw in enumerate(events)]
    part = SourceSlice("s", "s", 0, 0, people, people, records_crc(records))
    space.take(1, NOW, Slice(NOW, (part,)), records)
    finish = PartitionWork.finish

    def counted(self: PartitionWork, *, done: bool) -> ProfileStep:
        step = finish(self, done=done)
        sizes.append(len(step.outputs))
        return step

    monkeypatch.setattr(PartitionWork, "finish", counted)
    outputs.clear()
    space.take(2, NOW + 2 * HOUR_MS, ClockEntry(NOW + 2 * HOUR_MS, drained=True))
    monkeypatch.undo()
    return outputs, sizes


def test_everything_due_at_one_clock_is_cut_into_steps_and_told_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, one = sent_by_one_clock(monkeypatch, 10_000, 450)
    cut, many = sent_by_one_clock(monkeypatch, 100, 450)
    assert ([450], [100, 100, 100, 100, 50]) == (one, many)
    assert {AUDIENCE_CHANGES} == {record.topic for record in whole}
    assert [(record.key, record.value, record.src) for record in whole] == [
        (record.key, record.value, record.src) for record in cut
    ]
    assert 450 == len({record.src for record in cut})
