"""The group's client, which tells the agents how far their partitions have come."""

from __future__ import annotations

from typing import Any, Final

import uvloop
from aiokafka import AIOKafkaConsumer
from faust.transport.consumer import RecordMap
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types import TP

_GATHERED_BYTES: Final = 1024 * 1024
_GATHERED_MS: Final = 250
"""So much, or for so long, may gather before the group's client is told of it."""


class GatheringThread(AIOKafkaConsumerThread):
    """Faust's own, which does not ask for each message as it comes: an answer goes through two threads, and costs both."""

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_min_bytes = _GATHERED_BYTES  # noqa: SLF001 - a contract test watches it
        consumer._fetch_max_wait_ms = _GATHERED_MS  # noqa: SLF001
        return consumer


class GatheringConsumer(Consumer):
    """Faust's own. Of what has gathered in a partition the agent is told the last: the partition's owner reads by itself
    (docs/adr/0021-owners-read.md). So what is acknowledged speaks for all that stands before it.
    """

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        # With a loop like the main thread's. Faust leaves it open when it stops, and the process ends then.
        return GatheringThread(self, loop=self.loop, thread_loop=uvloop.new_event_loop(), beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> RecordMap:  # noqa: ASYNC109 - as Faust's
        found = await super()._getmany(active_partitions, timeout)
        return {where: records[-1:] for where, records in found.items()}

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """What lies between two messages is waited for by nobody."""

    def _new_offset(self, tp: TP) -> int | None:
        acknowledged = self._acked[tp]
        if not acknowledged:
            return None
        last = max(acknowledged)
        acknowledged.clear()
        self._acked_index[tp].clear()
        return last + 1
