"""The torture's checker finds what it is there to find: a good run passes, and every doctored one is caught."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from torture.checker import check
from torture.load import MODELLED, PARTITIONS, RESYNC, SECOND_VERSION, SOURCES, SYNC_S, TOPOLOGY, WINDOW_S, lines
from torture.snapshot import Row, Snapshot

from cdp_stream.config.topology import Topology
from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.pipeline import compile_topology
from cdp_stream.stages.entries import ClockEntry, Entry, Slice, SourceSlice, encode_entry, records_crc
from cdp_stream.stages.orders import apply_control, first_topology, resync_entry
from cdp_stream.stages.records import OutputRecord
from cdp_stream.testing.local import LocalSpace

NOW = 1_790_000_000_000
STEP = 40
PACE_MS = 20


def run(seed: int, count: int) -> Snapshot:
    """An embedded run of the load, as the topics of a space: orders in mid-stream, and all windows expired at the end."""
    snapshot = Snapshot()

    def take(record: OutputRecord) -> None:
        rows = snapshot.outputs.setdefault(record.topic, {}).setdefault(record.partition, [])
        rows.append(Row(len(rows), record.key, record.value, record.src))

    places = [(topic, number) for topic, partitions in SOURCES.items() for number in range(partitions)]
    records: dict[tuple[str, int], list[RawRecord]] = {place: [] for place in places}
    clock = itertools.count(NOW, PACE_MS)
    for number, line in enumerate(lines(seed, count, lambda: next(clock))):
        place = places[number % len(places)]
        source = SourceRef(place[0], "id", place[1], len(records[place]))
        records[place].append(RawRecord(source, NOW + number * PACE_MS, None, line, identity=True))
    first, second = (compile_topology(Topology.model_validate(one)) for one in (TOPOLOGY, SECOND_VERSION))
    space = LocalSpace(PARTITIONS, take)

    def append(entry: Entry, at: int, held: list[RawRecord] | None = None) -> None:
        space.take(len(snapshot.entries), at, entry, held or [])
        snapshot.entries.append(msgspec.json.decode(encode_entry(entry)) | {"appended": at})

    append(first_topology(first, NOW), NOW)
    size = max(map(len, records.values()))
    for start in range(0, size, STEP):
        taken = {place: held[start : start + STEP] for place, held in records.items() if held[start : start + STEP]}
        parts = tuple(
            SourceSlice(topic, "id", number, start, start + len(held), len(held), records_crc(held))
            for (topic, number), held in taken.items()
        )
        now = NOW + (start + STEP) * len(places) * PACE_MS
        append(Slice(now, parts), now, [record for held in taken.values() for record in held])
        append(ClockEntry(now, drained=True), now)
        if start == size // STEP // 2 * STEP:
            append(apply_control(second, first.version, len(snapshot.entries), now), now)
        if start == size // STEP * 3 // 4 * STEP:
            append(resync_entry(*RESYNC, len(snapshot.entries), now), now)
    for _ in range(WINDOW_S + 2 * SYNC_S):
        now += 1000
        append(ClockEntry(now, drained=True), now)
    snapshot.sources = {
        place: {record.source.offset: (record.timestamp, record.value or b"") for record in held}
        for place, held in records.items()
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
    for what in ("exits by time", "entries by backfill", "told again", "list members", "records destinations/ads"):
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


def slices_of(snapshot: Snapshot) -> list[int]:
    return [at for at, entry in enumerate(snapshot.entries) if entry["entry"] == "slice"]


def cut_twice(snapshot: Snapshot) -> None:
    one, two = slices_of(snapshot)[5:7]
    entry = copy.deepcopy(snapshot.entries[one])
    entry["sources"][0][3] = snapshot.entries[two]["sources"][0][3]
    snapshot.entries[two] = entry


def lose_a_slice(snapshot: Snapshot) -> None:
    del snapshot.entries[slices_of(snapshot)[4]]


def lose_the_last_slice(snapshot: Snapshot) -> None:
    del snapshot.entries[slices_of(snapshot)[-1]]


def lose_a_source_record(snapshot: Snapshot) -> None:
    del snapshot.sources["web.events", 1][77]


def swap(snapshot: Snapshot) -> None:
    rows = rows_of(snapshot, "audience-changes")
    places: dict[tuple[bytes, str], list[int]] = {}
    for at, row in enumerate(rows):
        audience = json.loads(row.value)["audience_key"]
        if audience in MODELLED:
            places.setdefault((row.key, audience), []).append(at)
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
    last: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        said = json.loads(row.value)
        if said["type"] == "track" and said["properties"]["audience_key"] != RESYNC[0]:
            who = said.get("userId"), said.get("anonymousId"), json.dumps(said["context"].get("traits"))
            last[row.key, said["properties"]["audience_key"], *who] = row
    one = next(row for row in last.values() if b"Audience Entered" in row.value)
    rows.append(Row(len(rows), one.key, one.value, "profiles/0/999999/0/0"))


def lose_where(role: str, *said: bytes) -> Callable[[Snapshot], None]:
    """One record of a role goes that holds all these words."""

    def doctor(snapshot: Snapshot) -> None:
        for rows in snapshot.outputs[role].values():
            for at, row in enumerate(rows):
                if all(word in row.value for word in said):
                    del rows[at]
                    return
        raise AssertionError(f"no record of {role} says {said!r}")

    return doctor


def lose_what_was_told_again(snapshot: Snapshot) -> None:
    """All that was told again of one profile."""
    last: dict[tuple[bytes, str], str] = {}
    again: dict[bytes, list[int]] = {}
    rows = rows_of(snapshot, "destinations/crm")
    for at, row in enumerate(rows):
        said = json.loads(row.value)
        if said["type"] == "track" and said["properties"]["audience_key"] == RESYNC[0]:
            who = said.get("userId"), said.get("anonymousId"), said["context"].get("traits")
            place = row.key, json.dumps(who)
            if last.get(place) == said["event"]:
                again.setdefault(row.key, []).append(at)
            last[place] = said["event"]
    for at in reversed(next(iter(again.values()))):
        del rows[at]


def add_twice(snapshot: Snapshot) -> None:
    rows = rows_of(snapshot, "destinations/ads")
    first = json.loads(rows[0].value)
    at, later = next(
        (at, said)
        for at, row in enumerate(rows)
        if (said := json.loads(row.value))["sync"] == "changes" and said["name"] == first["name"]
    )
    value = json.dumps({**later, "add": [*later["add"], first["add"][0]]}).encode()
    rows[at] = Row(rows[at].offset, rows[at].key, value, rows[at].src)


DOCTORED = {
    "exit by time lost": (
        lose_where("audience-changes", b'"time"', b'"exited"', b'"active"'),
        "audience changes differ",
    ),
    "entry by backfill lost": (lose_where("audience-changes", b'"topology"', b"viewers"), "audience changes differ"),
    "not told again": (lose_what_was_told_again, "resync"),
    "first sync of a list lost": (lose_where("destinations/ads", b'"whole"'), "list sync"),
    "changes of a list lost": (lose_where("destinations/ads", b'"changes"', b'"userId"'), "list member"),
    "added to a list twice": (add_twice, "list change"),
    **{f"{role} doubled": (double(role), "doubled output") for role in ("ledger", "trait-changes", "dead-letters")},
    "audience change doubled": (double("audience-changes"), "no alternation"),
    "destination doubled": (double("destinations/crm"), "doubled output"),
    "profile change doubled": (double("profile-changes"), "doubled output"),
    "profile change lost": (lose("profile-changes"), "broken chain"),
    "dead letter lost": (lose("dead-letters"), "dead letters"),
    "audience change lost": (lose_where("audience-changes", b'"buyers"'), "audience changes differ"),
    "trait change lost": (lose_where("trait-changes", b'"spend"'), "trait changes differ"),
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
