"""What the user wrote, walked place by place before it is typed: paths and values, whatever else may be wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cdp_stream.config.explain import shown
from cdp_stream.errors import Problem


def entries_of(data: Mapping[str, Any], section: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The mappings in a list, each with its path; whatever is malformed is passed over."""
    entries = data.get(section)
    if isinstance(entries, list | tuple):
        for place, entry in enumerate(entries):
            if isinstance(entry, Mapping):
                yield f"{section}[{place}]", entry


def texts_of(data: Mapping[str, Any], section: str, key: str) -> list[tuple[str, str]]:
    """The texts under one key of a list's mappings, each with its path."""
    return [
        (f"{path}.{key}", entry[key]) for path, entry in entries_of(data, section) if isinstance(entry.get(key), str)
    ]


def twice(what: str, places: list[tuple[str, str]]) -> list[Problem]:
    """A problem for each value that an earlier place has, too."""
    first: dict[str, str] = {}
    problems = []
    for path, value in places:
        if value in first:
            problems.append(Problem(path, f"the {what} {shown(value)} is used already, at {first[value]}"))
        else:
            first[value] = path
    return problems
