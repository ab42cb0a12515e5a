"""Decisions as lines for people: what became of a record, and why."""

from __future__ import annotations

from typing import Any

from cdp_stream.model.event import DeadLetter, Event, RawRecord
from cdp_stream.model.graph import IdentityOutcome, Resolution

_ID_SHOWN = 10


def explain_line(what: str, record: RawRecord, subject: Any) -> str:
    """One line: place, event, outcome and the reasons of it."""
    place = f"{record.source.topic}/{record.source.partition}/{record.source.offset}"
    match what:
        case "dead_letter":
            letter: DeadLetter = subject
            field = f" ({letter.field})" if letter.field else ""
            return f"{place}  dead letter  {letter.reason}{field}: {letter.detail}"
        case "duplicate":
            return f"{place}  duplicate    message id {subject.message_id} was seen before"
        case _:
            event, outcome = subject
            return f"{place}  {_outcome(event, outcome)}"


def _outcome(event: Event, outcome: IdentityOutcome) -> str:
    parts = [_resolution(resolution) for resolution in (outcome.user, outcome.account) if resolution is not None]
    reasons = [
        f"{decision.violation}: " + ", ".join(f"{i.type} {i.value}" for i in decision.demoted or decision.identifiers)
        for decision in outcome.decisions
        if decision.violation
    ]
    name = f"{event.type} {event.name}" if event.name and event.type == "track" else event.type
    why = f"  [{'; '.join(reasons)}]" if reasons else ""
    return f"{name:28} {'; '.join(parts)}{why}"


def _resolution(resolution: Resolution) -> str:
    profile = resolution.profile
    short = profile.id[: 4 + _ID_SHOWN]
    new = ", ".join(f"{mapping.type} {mapping.value}" for mapping in resolution.mapped)
    if resolution.created:
        return f"created {short} {{{new}}}"
    if resolution.absorbed:
        gone = ", ".join(absorbed[: 4 + _ID_SHOWN] for absorbed in resolution.absorbed)
        return f"merged {gone} into {short}" + (f", added {new}" if new else "")
    if new:
        return f"added {new} to {short}"
    if resolution.demoted:
        return f"demoted, stays with {short}"
    return f"resolved to {short}"
