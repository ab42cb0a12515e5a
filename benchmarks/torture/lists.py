"""What a list destination was told, replayed as its receiver would: does every sync fit, and is the end right?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from torture.load import LISTS, SYNC_S
from torture.model import Model
from torture.verdict import Verdict

Member = tuple[str | None, str | None, str | None]
"""An identifier combination: user id, anonymous id, email."""


def check_lists(told: Sequence[bytes], model: Model, verdict: Verdict) -> None:
    """`told`: the records of the list destination, each list's in order; the model has come to its end."""
    members: dict[str, set[Member]] = {}
    open_sync: dict[str, tuple[str, int]] = {}
    last_sync: dict[str, str] = {}
    for raw in told:
        said = json.loads(raw)
        audience, sync = said["context"]["personas"]["computation_key"], said["timestamp"]
        if (sync, said["part"] - 1) != open_sync.get(audience, (sync, 0)):
            verdict.find("list parts", f"{audience} {sync}: part {said['part']} follows {open_sync.get(audience)}")
        if said["part"] == 1:
            _check_sync(said, sync, last_sync.get(audience), verdict)
            last_sync[audience] = sync
        open_sync[audience] = sync, said["part"]
        if said["last"]:
            del open_sync[audience]
        listed = members.setdefault(audience, set())
        if said["sync"] == "whole" and said["part"] == 1:
            listed.clear()
        _change(audience, listed, said, verdict)
    verdict.counts["list members"] = sum(map(len, members.values()))
    for audience, place in open_sync.items():
        verdict.find("list parts", f"{audience}: nothing follows part {place[1]} of {place[0]}")
    for audience in LISTS:
        _check_end(audience, members.get(audience, set()), model, verdict)


def _check_sync(said: dict[str, Any], sync: str, before: str | None, verdict: Verdict) -> None:
    audience = said["context"]["personas"]["computation_key"]
    if (said["sync"] == "whole") != (before is None):
        verdict.find("list sync", f"{audience} {sync}: {said['sync']} after {before}")
    if (before or "") >= sync:
        verdict.find("list sync", f"{audience}: {sync} after {before}")
    if datetime.fromisoformat(sync).timestamp() % SYNC_S:
        verdict.find("list sync", f"{audience}: {sync} is no multiple of {SYNC_S} s")


def _change(audience: str, listed: set[Member], said: dict[str, Any], verdict: Verdict) -> None:
    for member in map(_member, said["remove"]):
        if member not in listed:
            verdict.find("list change", f"{audience} {said['timestamp']}: {member} is removed and not on the list")
        listed.discard(member)
    for member in map(_member, said["add"]):
        if member in listed:
            verdict.find("list change", f"{audience} {said['timestamp']}: {member} is added and on the list")
        listed.add(member)


def _check_end(audience: str, listed: set[Member], model: Model, verdict: Verdict) -> None:
    """Every combination on the list is of a member, and every member with a usable identifier is on it."""
    found: set[str] = set()
    for member in listed:
        owners = {person.name for one in _ids(member) if (person := model.owner.get(one)) is not None}
        if len(owners) != 1:
            verdict.find("list member", f"{audience}: {member} is of {len(owners)} profiles")
        found |= owners
    expected = model.members(audience)
    for name in sorted(found ^ expected):
        where = "on" if name in found else "not on"
        verdict.find("list member", f"{audience}: the profile that {name} created is {where} the list")


def _member(said: dict[str, Any]) -> Member:
    return said.get("userId"), said.get("anonymousId"), said.get("traits", {}).get("email")


def _ids(member: Member) -> list[tuple[str, str]]:
    user, anonymous, email = member
    ids = [("user_id", user), ("email", email)]
    # Who has neither goes by a device.
    if user is None and email is None:
        ids.append(("anonymous_id", anonymous))
    return [(kind, value) for kind, value in ids if value is not None]
