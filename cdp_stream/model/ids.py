"""Names of people and things: external ids, profile ids, and how the latter are derived."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, Literal, NamedTuple, NewType

ProfileId = NewType("ProfileId", str)
"""`use_` and 27 base62 digits; permanent, derived from the record that created the profile."""

Collection = Literal["users", "accounts"]
USERS: Final[Collection] = "users"
ACCOUNTS: Final[Collection] = "accounts"

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE62_PAIRS: Final = tuple(high + low for high in _BASE62 for low in _BASE62)
_PROFILE_ID_DIGITS: Final = 27


class ExternalId(NamedTuple):
    """An identifier type and a value, such as `email` and `ana@example.org`. Values compare byte for byte."""

    type: str
    value: str


class SourceRef(NamedTuple):
    """Where a source record stands: topic, the broker's id of that topic, partition and offset."""

    topic: str
    topic_id: str
    partition: int
    offset: int


def base62(digest: bytes, digits: int = _PROFILE_ID_DIGITS) -> str:
    """The number in `digest` (big endian) in base 62, its last `digits` digits."""
    number = int.from_bytes(digest, "big")
    pairs = []
    for _ in range((digits + 1) // 2):
        number, pair = divmod(number, 3844)
        pairs.append(_BASE62_PAIRS[pair])
    return "".join(reversed(pairs))[-digits:]


def derive(*parts: str) -> bytes:
    """A 20-byte hash of the parts; the parts cannot run into each other."""
    raws = [part.encode("utf-8", "surrogatepass") for part in parts]
    return blake2b(b"".join([b"%d:%b" % (len(raw), raw) for raw in raws]), digest_size=20).digest()


def profile_id_for(space: str, collection: Collection, message_id: str, source: SourceRef) -> ProfileId:
    """The id of the profile that this record creates: the same log always gives the same id."""
    place = f"{source.topic}/{source.topic_id}/{source.partition}/{source.offset}"
    return ProfileId("use_" + base62(derive("profile", space, collection, message_id, place)))


def share_before(profile_id: str) -> float:
    """About which share of all possible profile ids comes before this one; 0 for no id."""
    digits = profile_id.removeprefix("use_")[:4]
    share = 0.0
    for digit in reversed(digits):
        share = (share + _BASE62.index(digit)) / len(_BASE62)
    return share


def derived_message_id(source: SourceRef) -> str:
    """The message id of an event that carries none: its place in the log.

    Larger for a later record of the same partition, so that of two events with equal times the later one wins.
    """
    topic = base62(derive("message", source.topic, source.topic_id), 16)
    return f"derived_{topic}_{source.partition:05d}_{source.offset:019d}"
