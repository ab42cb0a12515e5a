"""Instants are read alike by every version of Python."""

from __future__ import annotations

import pytest

from cdp_stream.model.time import format_instant, parse_instant


@pytest.mark.parametrize(
    "text",
    [
        "2025-01-01T24:00",
        "2025-01-01T24:00:00Z",
        "2025-01-01 24:00:00.000+02:00",
        "20250101T240000",
        "2025-W01-3T24",
        "2025W013T24",
    ],
)
def test_the_hour_24_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names the hour 24"):
        parse_instant(text)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2025-01-24T00:00:00Z", "2025-01-24T00:00:00.000Z"),
        ("2024-12-31T23:59:59.999Z", "2024-12-31T23:59:59.999Z"),
        ("20250124T002400", "2025-01-24T00:24:00.000Z"),
        ("2025-01-01T02:24:24+02:24", "2025-01-01T00:00:24.000Z"),
        ("2025-W24-2T00:24", "2025-06-10T00:24:00.000Z"),
    ],
)
def test_other_24s_are_none(text: str, instant: str) -> None:
    assert instant == format_instant(parse_instant(text))
