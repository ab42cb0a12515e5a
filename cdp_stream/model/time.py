"""Instants and durations as whole milliseconds since 1970, UTC; nothing here reads a clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

Instant = int
"""Milliseconds since 1970-01-01T00:00:00Z."""

Duration = int
"""A length of time in milliseconds."""

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

INSTANT_MAX: Final = 253_402_300_799_999
"""The last millisecond of the year 9999, beyond which ISO-8601 has no four-digit year."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION: Final = re.compile(r"(\d{1,9})(ms|s|m|h|d)\Z")
_HOUR_24: Final = re.compile(r"(?:\d{4}-\d\d-\d\d|\d{8}|\d{4}-W\d\d(?:-\d)?|\d{4}W\d\d\d?).24", re.DOTALL)
_MINUTES: Final = [f"{minute // 60:02d}:{minute % 60:02d}:" for minute in range(DAY_MS // MINUTE_MS)]
_UNIT_MS: Final = {"ms": 1, "s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}


def instant_of(moment: datetime) -> Instant:
    """Milliseconds of an aware datetime; a naive one is read as UTC. Sub-milliseconds are cut off."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    # Whole numbers from the parts: dividing one timedelta by another costs four times as much.
    passed = moment - _EPOCH
    return passed.days * DAY_MS + passed.seconds * SECOND_MS + passed.microseconds // 1000


def parse_instant(text: str) -> Instant:
    """An ISO-8601 text as an instant; without an offset it is UTC. Raises ValueError if it is not one.

    The hour 24 is refused: only later versions of Python read it, and a record means the same to all of them.
    """
    if _HOUR_24.match(text) is not None:
        message = f"{text!r} names the hour 24; write 00:00 of the next day"
        raise ValueError(message)
    return instant_of(datetime.fromisoformat(text))


@lru_cache(maxsize=1_024)
def format_instant(instant: Instant) -> str:
    """ISO-8601 UTC with milliseconds and Z, the form of every instant in our records."""
    day, ms = divmod(instant, DAY_MS)
    minute, ms = divmod(ms, MINUTE_MS)
    second, ms = divmod(ms, SECOND_MS)
    return f"{_format_day(day)}{_MINUTES[minute]}{second:02d}.{ms:03d}Z"


@lru_cache(maxsize=1_024)
def _format_day(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).isoformat()[:11]


def parse_duration(text: str) -> Duration:
    """`30d`, `12h`, `15m`, `10s` or `500ms` in milliseconds. Raises ValueError otherwise."""
    match = _DURATION.match(text)
    if match is None:
        message = f"{text!r} is not a duration; write a number and a unit: 30d, 12h, 15m, 10s"
        raise ValueError(message)
    return int(match.group(1)) * _UNIT_MS[match.group(2)]
