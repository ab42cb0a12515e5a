"""What the user wrote, from disk: YAML, with `${NAME}` filled in from the environment, as a typed topology."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from cdp_stream.config.explain import path_text
from cdp_stream.config.fields import Filled
from cdp_stream.config.topology import Topology, parse_topology
from cdp_stream.errors import Problem, TopologyError

TOPOLOGY_FILE: Final = "topology.yaml"
FILE_BYTES_MAX: Final = 1_000_000
DEPTH_MAX: Final = 50
NODES_MAX: Final = 100_000
"""How many values a file may hold once its aliases are written out."""

_HINTS: Final = ("give a topology's folder or its topology.yaml", "space")
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def load_topology(path: Path, environ: Mapping[str, str]) -> Topology:
    """Read the topology of a folder (its `topology.yaml`) or of a file, variables filled from `environ`.

    Raises TopologyError with every problem. Definitions are not looked at: that is `compile_topology`'s.
    """
    file = path / TOPOLOGY_FILE if path.is_dir() else path
    data = read_yaml(file, Loader, _HINTS)
    problems: list[Problem] = []
    filled = _fill(data, (), environ, problems)
    if problems:
        raise TopologyError(str(file), problems)
    return parse_topology(filled, str(file))


def read_yaml(file: Path, loader_type: type[Loader], hints: tuple[str, str]) -> Mapping[Any, Any]:
    """The mapping in a YAML file. Raises TopologyError with `hints`: what to name instead, how the mapping begins."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        problem = Problem("", f"cannot be read: {error.strerror}", hints[0])
        raise TopologyError(str(file), [problem]) from error
    if len(raw) > FILE_BYTES_MAX:
        raise TopologyError(str(file), [Problem("", f"is larger than {FILE_BYTES_MAX} bytes")])
    try:
        text = raw.decode("utf-8-sig")
        loader = loader_type(text)
        data = loader.get_single_data()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TopologyError(str(file), [Problem("", f"line {line}: is not UTF-8")]) from None
    except yaml.MarkedYAMLError as error:
        raise TopologyError(str(file), [_syntax_problem(error)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise TopologyError(str(file), [Problem("", f"line {line}: holds a character that YAML forbids")]) from None
    except ValueError as error:
        # A date such as 2020-13-45 or a number of too many digits.
        raise TopologyError(str(file), [Problem("", f"holds a value that YAML cannot read: {error}")]) from None
    if loader.duplicates:
        in_order = sorted(loader.duplicates, key=lambda found: found[0])
        raise TopologyError(str(file), [problem for _, problem in in_order])
    if not isinstance(data, Mapping):
        raise TopologyError(
            str(file), [Problem("", f"should be a mapping of keys to values, beginning with '{hints[1]}'")]
        )
    return data


def _syntax_problem(error: yaml.MarkedYAMLError) -> Problem:
    what = ", ".join(part for part in (error.context, error.problem) if part)
    return Problem("", f"{_place(error.problem_mark)}: {what}")


def _place(mark: Any) -> str:
    return "end of file" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"


class Loader(yaml.SafeLoader):
    """Safe YAML that keeps count: of duplicate keys, of depth, and of what aliases would grow to."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.duplicates: list[tuple[int, Problem]] = []
        self._depth = 0
        self._sizes: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node, and refuse one that is too deep, too large or part of itself."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {DEPTH_MAX}", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if alias and id(node) not in self._sizes:
            raise yaml.MarkedYAMLError(problem="an alias inside the very value that it stands for", problem_mark=mark)
        if not alias:
            sizes = [self._sizes[id(child)] for child in _children(node)]
            self._sizes[id(node)] = (
                1 + sum(size for size, _ in sizes),
                1 + max((depth for _, depth in sizes), default=0),
            )
        size, depth = self._sizes[id(node)]
        if size > NODES_MAX or depth > DEPTH_MAX:
            raise yaml.MarkedYAMLError(problem="aliases make this value too large", problem_mark=mark)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Note keys that are given twice, which YAML would settle silently by taking the last."""
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                problem = Problem("", f"{_place(key.start_mark)}: the key '{key.value}' is given twice")
                self.duplicates.append((key.start_mark.index, problem))
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _fill(value: Any, location: tuple[int | str, ...], environ: Mapping[str, str], problems: list[Problem]) -> Any:
    if isinstance(value, Mapping):
        return {key: _fill(inner, (*location, str(key)), environ, problems) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, (*location, place), environ, problems) for place, inner in enumerate(value)]
    if isinstance(value, str) and "${" in value:
        return _fill_text(value, path_text(location), environ, problems)
    return value


def _fill_text(text: str, path: str, environ: Mapping[str, str], problems: list[Problem]) -> str:
    def value_of(match: re.Match[str]) -> str:
        name, default = match.groups()
        value = environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            hint = f"set it, or write ${{{name}:-default}}"
            problems.append(Problem(path, f"the environment variable {name} is not set", hint))
            return ""
        return value

    if "${" in _VARIABLE.sub("", text):
        problems.append(Problem(path, "holds '${' without a variable's name", "write ${NAME} or ${NAME:-default}"))
    return Filled(_VARIABLE.sub(value_of, text), text)
