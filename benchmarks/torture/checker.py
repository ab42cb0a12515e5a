"""The checker: what the topics say, and nothing that the workers claim. Pure; `check` takes a snapshot.

- every `src` exactly once in every output topic, for a reader without transactions;
- the valid slices of the identity log cover every source offset that holds a record, once;
- messages of profile changes name their predecessors;
- entered and exited alternate, in audience changes and for every combination at a destination;
- traits, audiences, dead letters and profiles are those of the slow model.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from torture.model import Model
from torture.snapshot import Row, Snapshot

_SAID_MAX = 5
"""How many examples of one kind of finding are told."""


@dataclass
class Verdict:
    """Counts to print, and what is wrong; nothing wrong: an empty list."""

    counts: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    _said: Counter[str] = field(default_factory=Counter)

    def find(self, kind: str, detail: str) -> None:
        """Something is wrong."""
        self._said[kind] += 1
        self.counts[f"WRONG {kind}"] = self._said[kind]
        if self._said[kind] <= _SAID_MAX:
            self.findings.append(f"{kind}: {detail}")


def check(snapshot: Snapshot) -> Verdict:
    """Everything that can be said about a snapshot of a space at rest."""
    verdict = Verdict()
    _once(snapshot, verdict)
    _chains(snapshot, verdict)
    _audiences(snapshot, verdict)
    _destinations(snapshot, verdict)
    order = _slices(snapshot, verdict)
    _model(snapshot, order, verdict)
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


def _destinations(snapshot: Snapshot, verdict: Verdict) -> None:
    """Entries and exits of each combination, told by one profile: after a merge another one goes on, in its partition."""
    for role in snapshot.outputs:
        if not role.startswith("destinations/"):
            continue
        last: dict[tuple[Any, ...], str] = {}
        for row in _rows(snapshot, role):
            said = json.loads(row.value)
            if said["type"] != "track" or said["event"] not in ("Audience Entered", "Audience Exited"):
                continue
            combination = said.get("userId"), said.get("anonymousId"), _email(said)
            place = row.key, said["properties"]["audience_key"], combination
            if said["event"] == last.get(place):
                verdict.find("no alternation at a destination", f"{role} {place} {said['event']} twice, {row.src}")
            last[place] = said["event"]


def _email(said: dict[str, Any]) -> str | None:
    email: str | None = said.get("context", {}).get("traits", {}).get("email")
    return email


def _slices(snapshot: Snapshot, verdict: Verdict) -> list[bytes]:
    """Source records in the order of the valid slices."""
    order: list[bytes] = []
    stands: dict[tuple[str, int], int] = {}
    named: Counter[tuple[str, int, int]] = Counter()
    slices = void = 0
    for entry in snapshot.entries:
        if entry["entry"] != "slice":
            continue
        slices += 1
        parts = entry["sources"]
        if any(stands.get((topic, number), start) != start for topic, _, number, start, *_ in parts):
            void += 1
            continue
        for topic, _, number, start, end, count, *_ in parts:
            records = snapshot.sources[topic, number]
            held = [offset for offset in range(start, end) if offset in records]
            if len(held) != count:
                verdict.find("wrong slice", f"{topic}/{number} {start} to {end} names {count}, holds {len(held)}")
            order.extend(records[offset] for offset in held)
            named.update((topic, number, offset) for offset in held)
            stands[topic, number] = end
    verdict.counts |= {"slices": slices, "void slices": void, "source records": 0}
    for (topic, number), records in snapshot.sources.items():
        verdict.counts["source records"] += len(records)
        for offset in records:
            if named[topic, number, offset] != 1:
                verdict.find(
                    "source record not once", f"{topic}/{number}/{offset}: {named[topic, number, offset]} times"
                )
    return order


def _model(snapshot: Snapshot, order: list[bytes], verdict: Verdict) -> None:
    model = Model()
    for raw in order:
        model.take(raw)
    created = {
        said["profile_id"]: said["message_id"]
        for row in _rows(snapshot, "ledger")
        if (said := json.loads(row.value))["decision"] == "profile_created"
    }
    verdict.counts |= {
        "duplicates": model.duplicates,
        "dead letters expected": model.dead,
        "profiles created": len(model.names),
        "profiles merged": len(model.names) - len(model.people),
        "profiles": len(model.people),
    }
    if model.dead != len(_rows(snapshot, "dead-letters")):
        verdict.find("dead letters", f"{model.dead} expected, {len(_rows(snapshot, 'dead-letters'))} found")
    if Counter(created.values()) != Counter(model.names):
        verdict.find("profiles created", f"{len(model.names)} expected, {len(created)} found")
    _profiles(snapshot, model, created, verdict)
    _sequences(snapshot, model, created, verdict)


def _profiles(snapshot: Snapshot, model: Model, created: dict[str, str], verdict: Verdict) -> None:
    left = dict(model.people)
    for profile in snapshot.profiles:
        person = left.pop(created.get(profile["id"], ""), None)
        if person is None:
            verdict.find("profile that should not be", profile["id"])
            continue
        found = {
            "ids": sorted((one["type"], one["id"]) for one in profile["external_ids"]),
            "traits": profile["traits"],
            "audiences": profile["audiences"],
        }
        expected = {"ids": sorted(person.ids), "traits": person.traits(), "audiences": sorted(person.audiences())}
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
        audiences[place].append((said["change"], said["cause"], said["message_id"]))
    _compare("audience changes", audiences, model.audience_changes, verdict)
    traits: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in _rows(snapshot, "trait-changes"):
        said = json.loads(row.value)
        place = created.get(said["profile_id"], said["profile_id"]), said["trait_key"]
        traits[place].append((said["value"], said["previous"], said["message_id"]))
    _compare("trait changes", traits, model.trait_changes, verdict)


def _compare(kind: str, found: dict[Any, list[Any]], expected: dict[Any, list[Any]], verdict: Verdict) -> None:
    for place in sorted({*found, *expected}):
        if found.get(place, []) != expected.get(place, []):
            verdict.find(f"{kind} differ", f"{place}: {found.get(place)}, expected {expected.get(place)}")
