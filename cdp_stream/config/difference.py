"""What differs between two topologies, said in the words of the file: what is new, gone, or otherwise than before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from msgspec import Struct

from cdp_stream.config.topology import Topology, canonical

Kind = Literal["added", "removed", "changed"]

_AFTER_IDENTITY: Final = {"traits": "key", "audiences": "key", "destinations": "name"}
"""Lists whose entries have a name of their own, and which key that is; they stand below `identity` in the file."""


class Difference(Struct, frozen=True):
    """One entry of the topology that is not what it was."""

    path: str
    """Where it stands: `audiences.big_spenders`, `identity.identifiers.email`, `partitions`."""
    kind: Kind
    fields: dict[str, tuple[Any, Any]] = {}
    """What differs inside it, before and after; None: not there."""


def differences(before: Topology, after: Topology) -> list[Difference]:
    """Every difference, in the order of the file. Secrets are compared as the placeholders that they are kept as."""
    old, new = canonical(before), canonical(after)
    found = _values("", {"space": old["space"]}, {"space": new["space"]})
    found += _list("sources", old["sources"], new["sources"], "name")
    found += _identity(old["identity"], new["identity"])
    for section, name in _AFTER_IDENTITY.items():
        found += _list(section, old[section], new[section], name)
    found += _values("retain.", old["retain"], new["retain"])
    return found + _values("", {"partitions": old["partitions"]}, {"partitions": new["partitions"]})


def _identity(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    found = _list("identity.identifiers", old["identifiers"], new["identifiers"], "type")
    kept = [[entry["type"] for entry in side["identifiers"]] for side in (old, new)]
    common = set(kept[0]) & set(kept[1])
    orders = [[type_ for type_ in side if type_ in common] for side in kept]
    if orders[0] != orders[1]:
        found.append(Difference("identity.identifiers", "changed", {"order": (kept[0], kept[1])}))
    rest = [{key: value for key, value in side.items() if key != "identifiers"} for side in (old, new)]
    return found + _values("identity.", rest[0], rest[1])


def _values(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    return [
        Difference(f"{prefix}{key}", "changed", {key: (old.get(key), new.get(key))})
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def _list(section: str, old: list[Any], new: list[Any], name: str) -> list[Difference]:
    was, now = ({entry[name]: entry for entry in entries} for entries in (old, new))
    found = []
    for key in dict.fromkeys([*was, *now]):
        path = f"{section}.{key}"
        if key not in was:
            found.append(Difference(path, "added", {field: (None, value) for field, value in now[key].items()}))
        elif key not in now:
            found.append(Difference(path, "removed", {field: (value, None) for field, value in was[key].items()}))
        elif was[key] != now[key]:
            fields = {
                field: (was[key].get(field), now[key].get(field))
                for field in dict.fromkeys([*was[key], *now[key]])
                if was[key].get(field) != now[key].get(field)
            }
            found.append(Difference(path, "changed", fields))
    return found
