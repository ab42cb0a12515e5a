"""A slow, obvious model of identity resolution: one list of rows, everything counted anew for every event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PERIOD_MS = {"ever": None, "annually": 365, "monthly": 30, "weekly": 7, "daily": 1}
DAY_MS = 24 * 3_600_000


@dataclass
class Row:
    type: str
    value: str
    profile: int
    mapped_at: int


@dataclass
class Model:
    """`order`: types by priority; `limits`: type to (count, period)."""

    order: list[str]
    limits: dict[str, tuple[int, str]]
    minimal: bool = False
    merges_max: int = 100
    mappings_max: int = 1000
    rows: list[Row] = field(default_factory=list)
    merged: dict[int, int] = field(default_factory=dict)
    into: dict[int, int] = field(default_factory=dict)
    profiles: int = 0

    def owner(self, identifier: tuple[str, str]) -> int | None:
        return next((row.profile for row in self.rows if (row.type, row.value) == identifier), None)

    def counts(self, rows: list[tuple[str, int]], type_: str, now: int) -> int:
        days = PERIOD_MS[self.limits[type_][1]]
        return sum(1 for kind, at in rows if kind == type_ and (days is None or at > now - days * DAY_MS))

    def rank(self, identifier: tuple[str, str]) -> int:
        return self.order.index(identifier[0])

    def broken(self, ids: list[tuple[str, str]], now: int) -> set[str]:
        matched = sorted({owner for i in ids if (owner := self.owner(i)) is not None})
        held = {profile: [(r.type, r.mapped_at) for r in self.rows if r.profile == profile] for profile in matched}
        whole = [row for rows in held.values() for row in rows] + [(i[0], now) for i in ids if self.owner(i) is None]
        found = set()
        for type_ in {kind for kind, _ in whole}:
            count = self.counts(whole, type_, now)
            before = max((self.counts(rows, type_, now) for rows in held.values()), default=0)
            if count > self.limits[type_][0] and count > before:
                found.add(type_)
        return found

    def demote(self, ids: list[tuple[str, str]], broken: set[str]) -> tuple[str, str] | None:
        candidates = ids
        if self.minimal:
            best = min(ids, key=lambda i: (self.rank(i), ids.index(i)))
            candidates = [
                i
                for i in ids
                if i != best and (i[0] in broken if self.owner(i) is None else self.owner(i) != self.owner(best))
            ]
        if not candidates:
            return None
        return max(candidates, key=lambda i: (self.rank(i), ids.index(i)))

    def resolve(self, ids: list[tuple[str, str]], now: int) -> int:
        ids = list(ids)
        while len(ids) > 1 and (broken := self.broken(ids, now)):
            dropped = self.demote(ids, broken)
            if dropped is None:
                break
            ids.remove(dropped)
        matched = sorted({owner for i in ids if (owner := self.owner(i)) is not None})
        new = sorted((i for i in ids if self.owner(i) is None), key=lambda i: (self.rank(i), ids.index(i)))
        if not matched:
            home = self.profiles
            self.profiles += 1
            self.merged[home] = 0
        elif len(matched) == 1:
            home = matched[0]
        else:
            home = self.merge(matched, ids, new)
        for identifier in new:
            if sum(1 for row in self.rows if row.profile == home) < self.mappings_max:
                self.rows.append(Row(*identifier, home, now))
        return home

    def merge(self, matched: list[int], ids: list[tuple[str, str]], new: list[tuple[str, str]]) -> int:
        merges = sum(self.merged[profile] for profile in matched) + len(matched) - 1
        held = sum(1 for row in self.rows if row.profile in matched)
        if merges > self.merges_max or held + len(new) > self.mappings_max:
            known = [i for i in ids if self.owner(i) is not None]
            home = self.owner(min(known, key=lambda i: (self.rank(i), ids.index(i))))
            assert home is not None
            return home
        home = matched[0]
        self.merged[home] = merges
        self.into |= dict.fromkeys(matched[1:], home)
        for row in self.rows:
            if row.profile in matched:
                row.profile = home
        return home

    def survivor(self, profile: int) -> int:
        while profile in self.into:
            profile = self.into[profile]
        return profile

    def owned(self) -> dict[int, set[Any]]:
        result: dict[int, set[Any]] = {}
        for row in self.rows:
            result.setdefault(row.profile, set()).add((row.type, row.value))
        return result
