"""A topology from a folder: YAML with `${NAME}` filled in from the environment, errors with file, line and path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cdp_stream.config.topology import Topology, parse_topology
from cdp_stream.errors import Problem, TopologyError

FILE_BYTES_MAX = 1024 * 1024
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key may stand once, and without anchors (a small file cannot become a huge one)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases are not supported", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def load_topology(path: Path, environ: Mapping[str, str]) -> Topology:
    """The topology in a folder (its `topology.yaml`) or file. Raises TopologyError with every problem found."""
    file = path / "topology.yaml" if path.is_dir() else path
    try:
        raw = file.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "give a folder that holds topology.yaml, such as topologies/ecommerce"
        raise TopologyError(str(file), [Problem("", f"cannot be read: {reason}", hint)]) from None
    if len(raw) > FILE_BYTES_MAX:
        raise TopologyError(str(file), [Problem("", f"is larger than {FILE_BYTES_MAX} bytes")])
    data = _parse(raw, str(file))
    problems: list[Problem] = []
    filled = _fill(data, "", environ, problems)
    if problems:
        raise TopologyError(str(file), problems)
    return parse_topology(filled, str(file))


def _parse(raw: bytes, file: str) -> Mapping[str, Any]:
    try:
        data = yaml.load(raw, Loader=_Loader)  # noqa: S506 - a SafeLoader with fewer features
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise TopologyError(file, [Problem(where, f"not YAML: {error.problem}")]) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise TopologyError(file, [Problem("", f"not YAML: {error}")]) from None
    if not isinstance(data, Mapping):
        raise TopologyError(file, [Problem("", "must be a mapping of keys, beginning with `space:`")])
    return data


def _fill(value: Any, path: str, environ: Mapping[str, str], problems: list[Problem]) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match, path, environ, problems), value)
    if isinstance(value, Mapping):
        return {key: _fill(item, f"{path}.{key}".lstrip("."), environ, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, f"{path}[{number}]", environ, problems) for number, item in enumerate(value)]
    return value


def _variable(match: re.Match[str], path: str, environ: Mapping[str, str], problems: list[Problem]) -> str:
    name, default = match.group(1), match.group(2)
    value = environ.get(name, default)
    if value is None:
        hint = f"set it, or write ${{{name}:-default}}"
        problems.append(Problem(path, f"the environment variable {name} is not set", hint))
        return ""
    return value
