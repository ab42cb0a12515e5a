"""What a config test expects, held against what there is; differences in a form that people read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any, Final, Literal

import orjson

from cdp_stream.config.cases import Records
from cdp_stream.config.fields import Part
from cdp_stream.model.time import parse_instant

Mark = Literal[" ", "-", "+"]
Row = dict[str, Any]

_WAYS_TRIED_MAX: Final = 20_000
"""How many ways to lay expected records over those that there are; more are needed only for hundreds of vague ones."""
_MEMBERS: Final = frozenset({"add", "remove"})
_INSTANTS: Final = frozenset({"time", "timestamp"})


@dataclass(frozen=True, slots=True)
class Difference:
    """A place where something else was expected: what was (`-`), what there is (`+`), and what is as it should be."""

    path: str
    lines: tuple[tuple[Mark, str], ...]

    def as_json(self) -> dict[str, Any]:
        """For a program: path, and the texts of what was expected and of what there is."""
        return {
            "path": self.path,
            "expected": [text for mark, text in self.lines if mark == "-"],
            "actual": [text for mark, text in self.lines if mark == "+"],
        }


def value_difference(path: str, expected: Any, actual: Any) -> list[Difference]:
    """One difference, or none, between an expected value and the one that is there."""
    if fits(expected, actual):
        return []
    return [Difference(path, (("-", text_of(expected)), ("+", text_of(_like(expected, actual)))))]


def fits(expected: Any, actual: Any) -> bool:
    """Whether a value is as expected: all named keys of a mapping, a list item by item, numbers by their value.

    `null` fits what is not there. `true` is not 1.
    """
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(fits(value, actual.get(key)) for key, value in expected.items())
    if isinstance(expected, list | tuple):
        return (
            isinstance(actual, list)
            and len(expected) == len(actual)
            and all(fits(*pair) for pair in zip(expected, actual, strict=True))
        )
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if isinstance(expected, float) or isinstance(actual, float):
        numbers = isinstance(expected, int | float) and isinstance(actual, int | float)
        return numbers and isclose(expected, actual, rel_tol=1e-9)
    return bool(expected == actual)


def text_of(value: Any) -> str:
    """A value in one line, as JSON."""
    return "none" if value is None else orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


@dataclass(frozen=True, slots=True)
class Topic:
    """The records of one topic, and what to look at in them."""

    rows: Sequence[Row]
    subject: Callable[[Row], Any]
    """Records of one subject have an order; those of different ones have none."""
    profile: Callable[[str], str | None]
    """The profile id behind an identifier or a profile id, or None."""
    shown: Callable[[Row], Row]
    """What people want to see of a record."""

    def differences(self, path: str, expected: Records[Any]) -> list[Difference]:
        """Where the records are not as expected."""
        found: list[Difference] = []
        if expected.all is not None and not self._laid_over(expected.all, between=False):
            found += self._compared(path, expected.all, all_of_them=True)
        if not self._laid_over(expected.contains, between=True):
            found += self._compared(f"{path}.contains", expected.contains, all_of_them=False)
        for place, item in enumerate(expected.lacks):
            there = [row for row in self.rows if self._matches(item, row)]
            if there:
                lines: list[tuple[Mark, str]] = [("+", text_of(self.shown(row))) for row in there]
                found.append(Difference(f"{path}.lacks[{place}]", tuple(lines)))
        return found

    def _matches(self, item: Part, row: Row) -> bool:
        return all(self._field_matches(key, value, row) for key, value in _named(item).items())

    def _field_matches(self, key: str, value: Any, row: Row) -> bool:
        if key == "profile":
            wanted = self.profile(value)
            return wanted is not None and wanted == self.profile(row["profile_id"])
        if key in _INSTANTS and isinstance(value, str):
            return isinstance(row.get(key), str) and parse_instant(value) == parse_instant(row[key])
        if key in _MEMBERS and value is not None:
            return _all_there(value, row.get(key))
        return fits(value, row.get(key))

    def _laid_over(self, expected: Sequence[Part], *, between: bool) -> bool:
        """Whether the expected records can be laid over those there are, each subject's in order.

        `between`: whether others may stand between them; if not, nothing may be left over.
        """
        if not between and len(expected) != len(self.rows):
            return False
        queues: dict[Any, list[Row]] = {}
        for row in self.rows:
            queues.setdefault(self.subject(row), []).append(row)
        lines = list(queues.values())
        # How many expected records are placed, and how many of each subject's are passed.
        start = (0, (0,) * len(lines))
        stack, tried = [start], {start}
        while stack and len(tried) <= _WAYS_TRIED_MAX:
            place, passed = stack.pop()
            if place == len(expected):
                return True
            for number in reversed(range(len(lines))):
                ahead = lines[number][passed[number] : None if between else passed[number] + 1]
                hit = next((at for at, row in enumerate(ahead) if self._matches(expected[place], row)), None)
                if hit is None:
                    continue
                then = (place + 1, (*passed[:number], passed[number] + hit + 1, *passed[number + 1 :]))
                if then not in tried:
                    tried.add(then)
                    stack.append(then)
        return False

    def _compared(self, path: str, expected: Sequence[Part], *, all_of_them: bool) -> list[Difference]:
        """The records side by side: what fits, then what is missing beside what is most like it, then the rest."""
        left = list(self.rows)
        lines: list[tuple[Mark, str]] = []
        missing: list[Part] = []
        for item in expected:
            hit = next((row for row in left if self._matches(item, row)), None)
            if hit is None:
                missing.append(item)
            else:
                left.remove(hit)
                lines.append((" ", text_of(_named(item))))
        if not missing and not (all_of_them and left):
            lines = [("-", text_of(_named(item))) for item in expected]
            lines += [("+", text_of(self.shown(row))) for row in self.rows]
            return [Difference(f"{path} (in this order)", tuple(lines))]
        for item in missing:
            lines.append(("-", text_of(_named(item))))
            nearest = max(left, key=lambda row: self._likeness(item, row), default=None)
            if nearest is not None and self._likeness(item, nearest):
                left.remove(nearest)
                lines.append(("+", text_of(self._as_named(item, nearest))))
        if all_of_them:
            lines += [("+", text_of(self.shown(row))) for row in left]
        return [Difference(path, tuple(lines))]

    def _likeness(self, item: Part, row: Row) -> float:
        """How much of an expectation a record fulfils: the share of fields that fit; a mapping's keys count in part."""
        score = 0.0
        for key, value in _named(item).items():
            if self._field_matches(key, value, row):
                score += 1
            elif isinstance(value, Mapping) and isinstance(row.get(key), Mapping):
                inner = sum(1 for name, wanted in value.items() if fits(wanted, row[key].get(name)))
                score += inner / (len(value) + 1)
        return score

    def _as_named(self, item: Part, row: Row) -> Row:
        """Of a record, the fields that the expectation names."""
        shown = {**row, **self.shown(row)}
        return {key: _like(value, shown.get(key)) for key, value in _named(item).items()}


def _all_there(expected: Sequence[Any], actual: Any) -> bool:
    """Whether a list holds what is expected and nothing else, in any order; each takes the first that fits."""
    left = list(actual or ())
    for value in expected:
        found = next((place for place, other in enumerate(left) if fits(value, other)), None)
        if found is None:
            return False
        del left[found]
    return actual is not None and not left


def _named(item: Part) -> Row:
    """The fields that an expectation names, under the names of the record."""
    fields = type(item).model_fields
    return {fields[name].alias or name: getattr(item, name) for name in fields if name in item.model_fields_set}


def _like(expected: Any, actual: Any) -> Any:
    """Of a mapping, the keys that were expected."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        return {key: _like(value, actual.get(key)) for key, value in expected.items()}
    return actual
