"""What the plain consumer relies on in aiokafka 0.14: the task that fetches is there to be asked."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from cdp_stream.stream.consumers import PlainConsumer


def nobody_knows(_where: TopicPartition) -> Any:
    raise TypeError("an answer that nobody has thought of")


def test_who_reads_is_told_when_the_fetching_has_failed_instead_of_finding_nothing_for_ever() -> None:
    async def run() -> None:
        consumer = PlainConsumer()
        consumer._client.cluster.leader_for_partition = nobody_knows
        consumer._coordinator = SimpleNamespace(check_errors=lambda: None)
        fetcher = consumer._fetcher = Fetcher(consumer._client, consumer._subscription)
        consumer._subscription.assign_from_user({TopicPartition("events", 0)})
        try:
            await asyncio.wait({fetcher.error_future}, timeout=5)
            with pytest.raises(KafkaError, match="Unexpected error"):
                await consumer.getmany(timeout_ms=10)
        finally:
            consumer._closed = True  # there is nothing to close: it was never connected

    asyncio.run(run())
