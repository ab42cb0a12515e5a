"""Values from outside, made fit for a terminal: nothing in them can move the cursor or change what stands there."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""Control characters, and those that are unseen or turn the direction of the text."""


def safe(text: str) -> str:
    """The text with every unsafe character written as an escape, such as `\\x1b`."""
    return _UNSAFE.sub(_escape, text)


def safe_json(value: Any) -> str:
    """A plain value as JSON in one line, fit for a terminal."""
    return safe(orjson.dumps(value, default=str).decode())


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
