"""The torture's checker finds what it is there to find: a good run passes, and every doctored one is caught."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from torture.checker import check
from torture.load import PARTITIONS, SOURCES, TOPOLOGY, lines
from torture.snapshot import Row, Snapshot

from cdp_stream.config.topology import Topology
from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.pipeline import compile_topology
from cdp_stream.stages.entries import Slice, SourceSlice, encode_entry, records_crc
from cdp_stream.stages.orders import first_topology
from cdp_stream.stages.records import OutputRecord
from cdp_stream.testing.local import LocalSpace

NOW = 1_790_000_000_000
STEP = 40


def run(seed: int, count: int) -> Snapshot:
    """An embedded run of the load, as the topics of a space."""
    snapshot = Snapshot()

    def take(record: OutputRecord) -> None:
        rows = snapshot.outputs.setdefault(record.topic, {}).setdefault(record.partition, [])
        rows.append(Row(len(rows), record.key, record.value, record.src))

    places = [(topic, number) for topic, partitions in SOURCES.items() for number in range(partitions)]
    records: dict[tuple[str, int], list[RawRecord]] = {place: [] for place in places}
    for number, line in enumerate(lines(seed, count)):
        place = places[number % len(places)]
        source = SourceRef(place[0], "id", place[1], len(records[place]))
        records[place].append(RawRecord(source, NOW + number, None, line, identity=True))
    topology = compile_topology(Topology.model_validate(TOPOLOGY))
    space = LocalSpace(PARTITIONS, take)
    entries: list[Any] = [first_topology(topology, NOW)]
    space.take(0, NOW, entries[0])
    for start in range(0, max(map(len, records.values())), STEP):
        taken = {place: held[start : start + STEP] for place, held in records.items() if held[start : start + STEP]}
        parts = tuple(
            SourceSlice(topic, "id", number, start, start + len(held), len(held), records_crc(held))
            for (topic, number), held in taken.items()
        )
        entry = Slice(NOW + count, parts)
        space.take(len(entries), NOW + count, entry, [record for held in taken.values() for record in held])
        entries.append(entry)
    snapshot.entries = [msgspec.json.decode(encode_entry(entry)) for entry in entries]
    snapshot.sources = {
        place: {record.source.offset: record.value or b"" for record in held} for place, held in records.items()
    }
    snapshot.profiles = list(space.all_profiles())
    snapshot.outputs["profile-changes"] = {
        0: [Row(at, b"", json.dumps({"previous": at - 1}).encode(), f"identity/0/{at}/0/0") for at in range(5)]
    }
    return snapshot


@pytest.fixture(scope="module")
def good() -> Snapshot:
    return run(7, 1_500)


def test_a_good_run_has_nothing_wrong_and_much_of_everything(good: Snapshot) -> None:
    verdict = check(good)
    assert [] == verdict.findings
    for what in ("transitions", "duplicates", "dead letters expected", "profiles merged", "records destinations/crm"):
        assert verdict.counts[what] > 5, what
    assert verdict.counts["source records"] == 1_500


def rows_of(snapshot: Snapshot, role: str) -> list[Row]:
    return max(snapshot.outputs[role].values(), key=len)


def double(role: str) -> Callable[[Snapshot], None]:
    def doctor(snapshot: Snapshot) -> None:
        rows = rows_of(snapshot, role)
        rows.insert(len(rows) // 2 + 1, rows[len(rows) // 2])

    return doctor


def lose(role: str) -> Callable[[Snapshot], None]:
    def doctor(snapshot: Snapshot) -> None:
        rows = rows_of(snapshot, role)
        del rows[len(rows) // 2]

    return doctor


def strip_src(snapshot: Snapshot) -> None:
    rows = rows_of(snapshot, "ledger")
    rows[3] = Row(rows[3].offset, rows[3].key, rows[3].value, None)


def cut_twice(snapshot: Snapshot) -> None:
    entry = copy.deepcopy(snapshot.entries[5])
    entry["sources"][0][3] = snapshot.entries[6]["sources"][0][3]
    snapshot.entries[6] = entry


def lose_a_slice(snapshot: Snapshot) -> None:
    del snapshot.entries[4]


def lose_the_last_slice(snapshot: Snapshot) -> None:
    snapshot.entries.pop()


def lose_a_source_record(snapshot: Snapshot) -> None:
    del snapshot.sources["web.events", 1][77]


def swap(snapshot: Snapshot) -> None:
    rows = rows_of(snapshot, "audience-changes")
    places: dict[tuple[bytes, str], list[int]] = {}
    for at, row in enumerate(rows):
        places.setdefault((row.key, json.loads(row.value)["audience_key"]), []).append(at)
    one, two = next(found for found in places.values() if len(found) > 1)[:2]
    rows[one], rows[two] = rows[two], rows[one]


def forget_a_profile(snapshot: Snapshot) -> None:
    snapshot.profiles.pop()


def miscount(snapshot: Snapshot) -> None:
    profile = next(profile for profile in snapshot.profiles if profile["traits"].get("spend"))
    profile["traits"]["spend"] += 1


def invent_a_profile(snapshot: Snapshot) -> None:
    snapshot.profiles.append({**snapshot.profiles[0], "id": "use_none"})


def enter_twice(snapshot: Snapshot) -> None:
    rows = rows_of(snapshot, "destinations/crm")
    one = next(row for row in rows if b"Audience Entered" in row.value)
    rows.append(Row(len(rows), one.key, one.value, "profiles/0/999999/0/0"))


DOCTORED = {
    **{f"{role} doubled": (double(role), "doubled output") for role in ("ledger", "trait-changes", "dead-letters")},
    "audience change doubled": (double("audience-changes"), "no alternation"),
    "destination doubled": (double("destinations/crm"), "doubled output"),
    "profile change doubled": (double("profile-changes"), "doubled output"),
    "profile change lost": (lose("profile-changes"), "broken chain"),
    "dead letter lost": (lose("dead-letters"), "dead letters"),
    "audience change lost": (lose("audience-changes"), "audience changes differ"),
    "trait change lost": (lose("trait-changes"), "trait changes differ"),
    "no src": (strip_src, "output without src"),
    "slice cut twice": (cut_twice, "source record not once"),
    "slice lost": (lose_a_slice, "source record not once"),
    "last slice lost": (lose_the_last_slice, "source record not once"),
    "source record lost": (lose_a_source_record, "wrong slice"),
    "profile forgotten": (forget_a_profile, "profile missing"),
    "profile miscounted": (miscount, "profile differs"),
    "profile invented": (invent_a_profile, "profile that should not be"),
    "entered twice at a destination": (enter_twice, "no alternation at a destination"),
    "order of changes of a profile swapped": (swap, "audience changes differ"),
}


@pytest.mark.parametrize(("doctor", "kind"), DOCTORED.values(), ids=DOCTORED)
def test_a_doctored_space_is_caught(good: Snapshot, doctor: Callable[[Snapshot], None], kind: str) -> None:
    snapshot = copy.deepcopy(good)
    doctor(snapshot)
    assert kind in {finding.split(":")[0] for finding in check(snapshot).findings}
