"""Nothing that comes from outside may act on the terminal that it is shown on."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.cli.terminal import safe, safe_json


def test_escapes_are_readable() -> None:
    assert r"\x1b[2Jgone\x0a\u202e" == safe("\x1b[2Jgone\n\u202e")


def test_ordinary_text_stays_as_it_is() -> None:
    assert "Zoë 東京 'ok'" == safe("Zoë 東京 'ok'")


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    assert not [character for character in safe(text) if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}]


def test_a_value_is_json_in_one_line() -> None:
    assert r'{"name":"a\u001b","n":1}' == safe_json({"name": "a\x1b", "n": 1})
