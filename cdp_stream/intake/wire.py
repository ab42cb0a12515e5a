"""Step 1a: bytes become a JSON object that can be written again as it is; all that is not one raises `Refused`."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from cdp_stream.intake.checks import Refused
from cdp_stream.model.values import kind_of

RECORD_BYTES_MAX: Final = 32 * 1024
"""The ingest API's limit of one call ("http-api")."""
DEPTH_MAX: Final = 64
"""Objects and arrays inside one another; the event itself is the first."""

_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_FOLDED: Final = bytes.maketrans(b"123456789[", b"000000000{")
_LONG_INTEGER: Final = b"0" * 19
_STRING: Final = re.compile(rb'(?s)"[^"\\]*+(?:\\.[^"\\]*+)*+"?')
_NOT_BRACKETS: Final = bytes(code for code in range(256) if code not in b"[]{}")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")

_decode_any = msgspec.json.Decoder().decode


def read_object(raw: bytes | None) -> dict[str, Any]:
    """The object in `raw`: valid UTF-8 throughout, at most `DEPTH_MAX` deep, every integer of 64 bits, floats finite.

    The whole record is held to this, fields that nobody reads included. Raises Refused.
    """
    if not raw:
        raise Refused("not_json", None, "a tombstone: no value" if raw is None else "the value is empty")
    if len(raw) > RECORD_BYTES_MAX:
        raise Refused("too_large", None, f"{len(raw)} bytes; at most {RECORD_BYTES_MAX} are taken")
    # With digits and opening brackets made alike, one pass each tells whether a closer look is needed.
    folded = raw.translate(_FOLDED)
    # Depth is measured before decoding: how deep the decoder itself can go depends on the caller's stack.
    if folded.count(b"{") > DEPTH_MAX and _is_too_deep(raw):
        raise Refused("too_deep", None, f"nested deeper than {DEPTH_MAX} levels")
    try:
        value = _decode_any(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _undecodable(raw, error) from None
    if type(value) is not dict:
        raise Refused("not_object", None, f"the record is {kind_of(value)}; an event is an object")
    # Longer integers come as Python's own. Ids in quotes may look like one, so the values decide, not the bytes.
    if _LONG_INTEGER in folded:
        _check_integers(value)
    return value


def _is_too_deep(raw: bytes) -> bool:
    """Whether more than `DEPTH_MAX` brackets are ever open at once, those in strings apart."""
    depth = 0
    for bracket in _STRING.sub(b"", raw).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEPTH_MAX:
            return True
    return False


def _undecodable(raw: bytes, error: Exception) -> Refused:
    """Why the decoder gave up."""
    try:
        raw.decode()
    except UnicodeDecodeError as broken:
        return Refused("invalid_utf8", None, f"not UTF-8 at byte {broken.start}")
    # Without a schema, numbers are the only thing that can be valid JSON and yet refused.
    if isinstance(error, msgspec.ValidationError):
        return Refused("number_out_of_range", None, "a number does not fit 64 bits")
    if _only_fault_is_surrogates(raw):
        return Refused("invalid_utf8", None, "a text holds half a surrogate pair, which UTF-8 cannot write")
    # Not the decoder's own words: a dead letter must read the same whatever version of it wrote it.
    return Refused("not_json", None, "the value is not valid JSON")


def _only_fault_is_surrogates(raw: bytes) -> bool:
    """Whether the record is JSON once every escaped surrogate is an ordinary letter."""
    mended, count = _SURROGATE.subn(rb"\\u0041", raw)
    if not count:
        return False
    try:
        _decode_any(mended)
    except msgspec.DecodeError:
        return False
    return True


def _check_integers(value: dict[str, Any]) -> None:
    """Walk everything; `read_object` has bounded the depth, and the loop needs no stack."""
    nodes: list[Any] = [value]
    while nodes:
        node = nodes.pop()
        if type(node) is dict:
            nodes.extend(node.values())
        elif type(node) is list:
            nodes.extend(node)
        elif type(node) is int and not _INT_MIN <= node <= _INT_MAX:
            raise Refused("number_out_of_range", None, "an integer does not fit 64 bits")
