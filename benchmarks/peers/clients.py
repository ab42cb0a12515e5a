"""Reading batches and telling profiles with librdkafka, for the peers that bring no stream library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, Producer

from peers.job import BATCH


class Kafka:
    """A consumer of the source and a producer of resolutions; positions are committed when a batch is stored."""

    def __init__(self, bootstrap: str, source: str, out: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{out}.group",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        self._consumer.subscribe([source])
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "acks": "all"})
        self._out = out

    def batches(self, events: int) -> Iterator[list[Any]]:
        """Messages, until there were so many."""
        left = events
        while left > 0:
            messages = [one for one in self._consumer.consume(min(BATCH, left), timeout=1.0) if one.error() is None]
            if messages:
                left -= len(messages)
                yield messages

    def tell(self, profiles: list[int | None]) -> None:
        """One record a resolved event; then the positions."""
        for profile in profiles:
            if profile is not None:
                self._producer.produce(self._out, key=str(profile).encode(), value=b'{"profile":%d}' % profile)
        self._producer.flush()
        self._consumer.commit(asynchronous=False)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
