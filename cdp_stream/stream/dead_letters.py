"""Dead letters, read from their topic, and put again into the sources that they came from."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from cdp_stream.errors import BrokerUnavailable
from cdp_stream.intake.decode import decode
from cdp_stream.model.event import DeadLetter, RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.model.time import parse_instant
from cdp_stream.stages.records import DEAD_LETTERS
from cdp_stream.stream.kafka_log import KafkaLog
from cdp_stream.stream.reading import follow
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import MESSAGE_BYTES_MAX, TopicNames

REPLAY_HEADER = "cdp-replay-of"
"""Header of a record that was put in again: topic, partition and offset of the original, by slashes."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter and its number: the offset in its topic."""

    number: int
    key: bytes
    row: dict[str, Any]

    @property
    def origin(self) -> str:
        """Where the record stood: `topic/partition/offset`."""
        source = self.row["source"]
        return f"{source['topic']}/{source['partition']}/{source['offset']}"

    @property
    def value(self) -> bytes:
        """The original bytes, or their beginning."""
        return b64decode(self.row["value_base64"])

    def still_refused(self) -> str | None:
        """The reason for which these bytes would be refused again before anyone's identity is asked, or None."""
        source = self.row["source"]
        place = SourceRef(source["topic"], "", source["partition"], source["offset"])
        found = decode(RawRecord(place, parse_instant(source["timestamp"]), self.key, self.value))
        return found.reason if isinstance(found, DeadLetter) else None


async def read_letters(settings: Settings, names: TopicNames) -> AsyncIterator[Letter]:
    """Every dead letter of the space that its topic still has, oldest first."""
    log = KafkaLog(settings.aiokafka_options())
    topic = names.of_role(DEAD_LETTERS)
    async for record in follow(log, [topic], from_beginning=True, to_end=True):
        yield Letter(record.offset, bytes(record.key or b""), orjson.loads(record.value))


async def put_again(settings: Settings, letters: Sequence[Letter]) -> None:
    """Produce the original bytes to the partitions that they came from, marked with their origin.

    The original headers are not known, and the Kafka timestamp is that of the replay.
    """
    log = KafkaLog(settings.aiokafka_options())
    shapes = await log.describe(sorted({letter.row["source"]["topic"] for letter in letters}))
    for letter in letters:
        source = letter.row["source"]
        shape = shapes.get(source["topic"])
        if shape is None or source["partition"] >= shape.partitions:
            raise BrokerUnavailable(f"{letter.origin}: that source partition does not exist any more; nothing was sent")
    producer = AIOKafkaProducer(**settings.aiokafka_options(), acks="all", max_request_size=MESSAGE_BYTES_MAX)
    await producer.start()
    try:
        for letter in letters:
            source = letter.row["source"]
            headers = [(REPLAY_HEADER, letter.origin.encode())]
            # One after the other: if one is refused, the number of those sent is known.
            await producer.send_and_wait(
                source["topic"], letter.value, key=letter.key or None, partition=source["partition"], headers=headers
            )
    finally:
        await producer.stop()
