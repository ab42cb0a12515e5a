"""A topology file with its definitions written otherwise, and every other character as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import yaml

from cdp_stream.config.load import Loader

LINE_MAX: Final = 120
"""Characters; what is longer is folded over several lines."""
_SECTIONS: Final = ("traits", "audiences")
_BLOCK_STYLES: Final = (">", "|")
_QUOTED_OR_MARK: Final = re.compile(r"""'(?:\\.|[^'\\])*'|(?P<mark>[ .()])""", re.DOTALL)
"""Texts of the canonical form, which are passed over, and places where a line may end."""
_INDENT: Final = 2


def rewrite_definitions(text: str, spell: Callable[[str, str], str]) -> str:
    """The text of a `topology.yaml`, each definition spelled anew. `spell`: its path and its value to its new value.

    Definitions with a variable in them (`${NAME}`) stay. The text is to be valid YAML.
    """
    pieces: list[str] = []
    done = 0
    found = sorted(_definitions(text), key=lambda one: one[2].start_mark.index)
    for path, key, node, in_flow in found:
        start, end = node.start_mark.index, node.end_mark.index
        if start < done or "${" in node.value:  # an alias points to a place that was written already
            continue
        raw = text[start:end]
        if node.style in _BLOCK_STYLES:
            raw = raw.rstrip()
        spelled = spell(path, node.value)
        pieces += [
            text[done:start],
            raw if spelled == node.value and _fits(raw, key) else _scalar(spelled, raw, key, in_flow),
        ]
        done = start + len(raw)
    return "".join([*pieces, text[done:]])


def _definitions(text: str) -> Iterator[tuple[str, Any, Any, bool]]:
    """Path, key, value and whether it stands in braces, of each definition."""
    root: Any = Loader(text).get_single_node()
    for section, entries in root.value:
        if section.value not in _SECTIONS or not isinstance(entries, yaml.SequenceNode):
            continue
        for place, entry in enumerate(entries.value):
            if not isinstance(entry, yaml.MappingNode):
                continue
            for key, value in entry.value:
                if key.value == "definition" and isinstance(value, yaml.ScalarNode):
                    yield (
                        f"{section.value}[{place}].definition",
                        key,
                        value,
                        bool(entry.flow_style or entries.flow_style),
                    )


def _fits(raw: str, key: Any) -> bool:
    lines = raw.splitlines()
    return key.end_mark.column + 2 + len(lines[0]) <= LINE_MAX and all(len(line) <= LINE_MAX for line in lines[1:])


def _scalar(value: str, raw: str, key: Any, in_flow: bool) -> str:
    """A value as YAML: in quotes where it fits into the line, else folded; a comment behind the header stays."""
    comment = ""
    if raw.startswith(_BLOCK_STYLES):
        header = raw.partition("\n")[0]
        comment = f" {header[header.index('#') :]}" if "#" in header else ""
    quoted = "".join(map(_printable, json.dumps(value, ensure_ascii=False)))
    is_short = key.end_mark.column + 2 + len(quoted) + len(comment) <= LINE_MAX
    if in_flow or is_short or not value.isprintable():
        return quoted + comment
    indent = " " * (key.start_mark.column + _INDENT)
    return "\n".join([f">-{comment}", *(indent + line for line in _folded(value, LINE_MAX - len(indent)))])


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"


def _folded(value: str, width: int) -> list[str]:
    """Lines that YAML folds into the value again, give or take a space before a dot, which means nothing.

    They begin with AND or OR where they can, else with a method of the outermost events, else behind any space.
    """
    joints, dots, spaces = _cuts(value)
    lines: list[str] = []
    start = 0
    while len(value) - start > width:
        fitting = ([cut for cut in cuts if start < cut <= start + width] for cuts in (joints, dots, spaces))
        cut = next((cuts[-1] for cuts in fitting if cuts), None)
        if cut is None:
            cut = min((cut for cut in (*joints, *dots, *spaces) if cut > start), default=len(value))
        lines.append(value[start:cut].rstrip(" "))
        start = cut + (value[cut : cut + 1] == " ")
    return [*lines, value[start:]] if start < len(value) else lines


def _cuts(value: str) -> tuple[list[int], list[int], list[int]]:
    """Places outside of quotes: spaces before AND and OR, dots of methods outside of all brackets, other spaces."""
    joints: list[int] = []
    dots: list[int] = []
    spaces: list[int] = []
    depth = 0
    for match in _QUOTED_OR_MARK.finditer(value):
        mark, place = match["mark"], match.start()
        if mark in ("(", ")"):
            depth += 1 if mark == "(" else -1
        elif mark == ".":
            if not depth and value[place - 1] == ")":
                dots.append(place)
        elif mark == " ":
            (joints if value.startswith((" AND ", " OR "), place) else spaces).append(place)
    return joints, dots, spaces
