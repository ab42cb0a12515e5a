"""The checker: what the topics say, and nothing that the workers claim. Pure; `check` takes a snapshot.

- every `src` exactly once in every output topic, for a reader without transactions;
- the valid slices of the identity log cover every source offset that holds a record, once;
- messages of profile changes name their predecessors;
- entered and exited alternate, in audience changes and for every combination at a destination, but for a resync;
- lists: the whole first, then changes that fit, and at the end the members of the slow model (`lists.py`);
- traits, audiences, dead letters and profiles are those of the slow model, exits by time and a backfill included.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from torture.lists import check_lists
from torture.load import MODELLED, RESYNC
from torture.model import Model
from torture.snapshot import Row, Snapshot
from torture.verdict import Verdict


def check(snapshot: Snapshot) -> Verdict:
    """Everything that can be said about a snapshot of a space at rest."""
    verdict = Verdict()
    _once(snapshot, verdict)
    _chains(snapshot, verdict)
    _audiences(snapshot, verdict)
    model = _run_model(snapshot, verdict)
    created = {
        said["profile_id"]: said["message_id"]
        for row in _rows(snapshot, "ledger")
        if (said := json.loads(row.value))["decision"] == "profile_created"
    }
    _counts(snapshot, model, created, verdict)
    _profiles(snapshot, model, created, verdict)
    _sequences(snapshot, model, created, verdict)
    _destination(snapshot, model, created, verdict)
    check_lists([row.value for row in _rows(snapshot, "destinations/ads")], model, verdict)
    return verdict


def _once(snapshot: Snapshot, verdict: Verdict) -> None:
    for role, partitions in sorted(snapshot.outputs.items()):
        found: Counter[str] = Counter()
        for partition, rows in partitions.items():
            for row in rows:
                if row.src is None:
                    verdict.find("output without src", f"{role}/{partition} offset {row.offset}")
                else:
                    found[row.src] += 1
        verdict.counts[f"records {role}"] = sum(found.values())
        for src, count in found.items():
            if count > 1:
                verdict.find("doubled output", f"{role}: {src} stands {count} times")


def _chains(snapshot: Snapshot, verdict: Verdict) -> None:
    for partition, rows in snapshot.outputs.get("profile-changes", {}).items():
        last: int | None = None
        for row in rows:
            previous = json.loads(row.value)["previous"]
            if last is not None and previous != last:
                verdict.find("broken chain", f"profile-changes/{partition} offset {row.offset}: previous {previous}")
            last = row.offset


def _rows(snapshot: Snapshot, role: str) -> list[Row]:
    return [row for rows in snapshot.outputs.get(role, {}).values() for row in rows]


def _audiences(snapshot: Snapshot, verdict: Verdict) -> None:
    last: dict[tuple[str, str], str] = {}
    for row in _rows(snapshot, "audience-changes"):
        said = json.loads(row.value)
        place = said["profile_id"], said["audience_key"]
        if said["change"] == last.get(place, "exited"):
            verdict.find("no alternation", f"{place} {said['change']} twice, {row.src}")
        last[place] = said["change"]
    verdict.counts["transitions"] = len(_rows(snapshot, "audience-changes"))


def _destination(snapshot: Snapshot, model: Model, created: dict[str, str], verdict: Verdict) -> None:
    """Entries and exits of each combination, told by one profile: after a merge another one goes on, in its partition.

    Entered comes twice only where the destination was told again, and it was told again of every member. In which
    combinations the slow model does not know: one that a profile no longer forms is not told again.
    """
    last: dict[tuple[Any, ...], str] = {}
    again: Counter[tuple[Any, ...]] = Counter()
    for row in _rows(snapshot, "destinations/crm"):
        said = json.loads(row.value)
        if said["type"] != "track" or said["event"] not in ("Audience Entered", "Audience Exited"):
            continue
        combination = said.get("userId"), said.get("anonymousId"), _email(said)
        place = row.key.decode(), said["properties"]["audience_key"], combination
        if said["event"] == last.get(place):
            again[place] += 1
            allowed = model.resyncs if place[1] == RESYNC[0] and said["event"] == "Audience Entered" else 0
            if again[place] > allowed:
                verdict.find("no alternation at a destination", f"crm {place} {said['event']} twice, {row.src}")
        last[place] = said["event"]
    told = {created.get(place[0], place[0]) for place in again}
    verdict.counts["told again"] = len(told)
    for name in sorted(told ^ model.resynced):
        verdict.find("resync", f"the profile that {name} created was {'' if name in told else 'not '}told again")


def _email(said: dict[str, Any]) -> str | None:
    email: str | None = said.get("context", {}).get("traits", {}).get("email")
    return email


def _run_model(snapshot: Snapshot, verdict: Verdict) -> Model:
    """The model, fed with the identity log's entries and the source records of its valid slices."""
    model = Model()
    stands: dict[tuple[str, int], int] = {}
    named: Counter[tuple[str, int, int]] = Counter()
    counted: Counter[str] = Counter()
    for entry in snapshot.entries:
        counted[entry["entry"]] += 1
        match entry["entry"]:
            case "slice" if any(stands.get((part[0], part[2]), part[3]) != part[3] for part in entry["sources"]):
                counted["void slice"] += 1
            case "slice":
                for part in entry["sources"]:
                    stands[part[0], part[2]] = part[4]
                    named.update(_take_slice(part, entry["appended"], snapshot, model, verdict))
            case "clock" if entry["drained"]:
                model.pass_time(entry["appended"])
            case "control" if counted["control"] == 2:
                model.put_in_force_second()
            case "resync":
                model.resync(entry["audience"])
    model.end()
    verdict.counts |= {"slices": counted["slice"], "void slices": counted["void slice"], "resyncs": counted["resync"]}
    verdict.counts["topology versions"] = counted["control"]
    _source_records(snapshot, named, verdict)
    return model


def _source_records(snapshot: Snapshot, named: Counter[tuple[str, int, int]], verdict: Verdict) -> None:
    for (topic, number), records in snapshot.sources.items():
        for offset in records:
            if (times := named[topic, number, offset]) != 1:
                verdict.find("source record not once", f"{topic}/{number}/{offset}: {times} times")
    verdict.counts["source records"] = sum(map(len, snapshot.sources.values()))


def _take_slice(
    part: list[Any], appended: int, snapshot: Snapshot, model: Model, verdict: Verdict
) -> list[tuple[str, int, int]]:
    """Feed the model with one source partition's part of a slice; returns the places of its records."""
    topic, _, number, start, end, count, *_ = part
    records = snapshot.sources[topic, number]
    held = [offset for offset in range(start, end) if offset in records]
    if len(held) != count:
        verdict.find("wrong slice", f"{topic}/{number} {start} to {end} names {count}, holds {len(held)}")
    for timestamp, value in (records[offset] for offset in held):
        model.pass_time(min(timestamp, appended))
        model.take(value)
    return [(topic, number, offset) for offset in held]


def _counts(snapshot: Snapshot, model: Model, created: dict[str, str], verdict: Verdict) -> None:
    changes = [change for every in model.audience_changes.values() for change in every]
    verdict.counts |= {
        "duplicates": model.duplicates,
        "dead letters expected": model.dead,
        "profiles created": len(model.names),
        "profiles merged": len(model.names) - len(model.people),
        "profiles": len(model.people),
        "exits by time": changes.count(("exited", "time", "")),
        "entries by backfill": changes.count(("entered", "topology", "")),
    }
    if model.dead != len(_rows(snapshot, "dead-letters")):
        verdict.find("dead letters", f"{model.dead} expected, {len(_rows(snapshot, 'dead-letters'))} found")
    if Counter(created.values()) != Counter(model.names):
        verdict.find("profiles created", f"{len(model.names)} expected, {len(created)} found")


def _profiles(snapshot: Snapshot, model: Model, created: dict[str, str], verdict: Verdict) -> None:
    left = dict(model.people)
    for profile in snapshot.profiles:
        person = left.pop(created.get(profile["id"], ""), None)
        if person is None:
            verdict.find("profile that should not be", profile["id"])
            continue
        found = {
            "ids": sorted((one["type"], one["id"]) for one in profile["external_ids"]),
            "traits": {key: value for key, value in profile["traits"].items() if key in MODELLED},
            "audiences": [key for key in profile["audiences"] if key in MODELLED],
        }
        traits, audiences = person.told
        expected = {"ids": sorted(person.ids), "traits": traits, "audiences": sorted(audiences)}
        if found != expected:
            verdict.find("profile differs", f"{profile['id']}: {found}, expected {expected}")
    for name in left:
        verdict.find("profile missing", f"the one that {name} created")


def _sequences(snapshot: Snapshot, model: Model, created: dict[str, str], verdict: Verdict) -> None:
    """What was told of each profile and audience, and of each profile and trait, in order."""
    audiences: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in _rows(snapshot, "audience-changes"):
        said = json.loads(row.value)
        place = created.get(said["profile_id"], said["profile_id"]), said["audience_key"]
        by = "" if said["cause"] in ("time", "topology") else said["message_id"]
        audiences[place].append((said["change"], said["cause"], by))
    _compare("audience changes", audiences, model.audience_changes, verdict)
    traits: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in _rows(snapshot, "trait-changes"):
        said = json.loads(row.value)
        place = created.get(said["profile_id"], said["profile_id"]), said["trait_key"]
        traits[place].append((said["value"], said["previous"], said["message_id"] or ""))
    _compare("trait changes", traits, model.trait_changes, verdict)


def _compare(kind: str, found: dict[Any, list[Any]], expected: dict[Any, list[Any]], verdict: Verdict) -> None:
    for place in sorted({*found, *expected}):
        if place[1] in MODELLED and found.get(place, []) != expected.get(place, []):
            verdict.find(f"{kind} differ", f"{place}: {found.get(place)}, expected {expected.get(place)}")
