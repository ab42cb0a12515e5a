"""Dead letters for people: grouped, and their bytes shown without harm."""

from __future__ import annotations

from base64 import b64encode

from cdp_stream.cli.dead_letters import grouped, shown_bytes
from cdp_stream.stream.dead_letters import Letter


def letter(number: int, value: bytes, reason: str = "not_json", field: str | None = None) -> Letter:
    source = {"topic": "events", "partition": 0, "offset": number, "timestamp": "2026-01-01T00:00:00.000Z"}
    row = {"reason": reason, "field": field, "source": source, "now": f"t{number}", "truncated": False,
           "value_base64": b64encode(value).decode()}  # fmt: skip
    return Letter(number, b"", row)


def test_groups_come_by_number_and_name_first_and_last() -> None:
    found = grouped(
        [letter(1, b"x"), letter(2, b"{}", "wrong_type", "userId"), letter(5, b"{}", "wrong_type", "userId")]
    )
    assert [("wrong_type", "userId", 2, 2, 5, "t5"), ("not_json", None, 1, 1, 1, "t1")] == [
        (group["reason"], group["field"], group["count"], group["first"], group["last"], group["last_now"])
        for group in found
    ]


def test_bytes_are_shown_as_text_or_as_bytes_never_raw() -> None:
    assert r"\x1b[31mé" == shown_bytes("\x1b[31mé".encode())
    assert r"b'\xff\x1b'" == shown_bytes(b"\xff\x1b")
    assert "a" * 4096 + " … and 904 bytes more" == shown_bytes(b"a" * 5000)


def test_what_would_be_refused_again_is_known_beforehand() -> None:
    assert "not_json" == letter(1, b"{").still_refused()
    assert None is letter(2, b'{"type": "track", "event": "Paid"}', "no_identifiers").still_refused()
