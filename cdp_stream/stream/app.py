"""The Faust app of one stage: an agent on its input topic, and an owner for each partition that is assigned to it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import faust

from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import MESSAGE_BYTES_MAX

log = logging.getLogger("cdp_stream.app")


class PartitionOwner(Protocol):
    """What the app needs of an owner."""

    async def run(self) -> None:
        """Own the partition until cancelled."""

    async def close(self) -> None:
        """Release what is held."""


class Owners:
    """The owners of the assigned partitions, each in a task; an owner that fails ends the process (crash only)."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self._make = make
        self._owners: dict[int, Any] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def get(self, partition: int) -> Any:
        """The owner of a partition, started on first use."""
        if partition not in self._owners:
            self.start(partition)
        return self._owners[partition]

    def start(self, partition: int) -> None:
        """Begin to own a partition."""
        if partition in self._owners:
            return
        owner = self._owners[partition] = self._make(partition)
        self._tasks[partition] = asyncio.get_running_loop().create_task(self._guard(owner.run()))

    async def stop(self, partition: int) -> None:
        """Give a partition up between two awaits of its owner; an unfinished step is decided again later."""
        task = self._tasks.pop(partition, None)
        owner = self._owners.pop(partition, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if owner is not None:
            await owner.close()

    async def stop_all(self) -> None:
        """Give every partition up."""
        for partition in list(self._owners):
            await self.stop(partition)

    async def _guard(self, running: Coroutine[Any, Any, None]) -> None:
        try:
            await running
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, the state on disk is the one to go on from
            _crash(error)


def _crash(error: BaseException) -> None:
    """Say why, and end the process at once: nothing half done may go on, and the next start goes on from the store."""
    inner = error
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    log.critical("stopping: %s: %s", type(inner).__name__, inner, exc_info=inner)
    logging.shutdown()
    os._exit(1)


def build_app(settings: Settings, group: str, topic: str, make_owner: Callable[[int], Any]) -> tuple[faust.App, Owners]:
    """A Faust app whose agent hands the messages of `topic` to the owners of their partitions."""
    owners = Owners(make_owner)
    app = faust.App(
        group,
        broker=settings.faust_broker(),
        broker_credentials=settings.faust_credentials(),
        autodiscover=False,
        origin="cdp_stream",
        store="memory://",
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MESSAGE_BYTES_MAX,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 4,
        broker_commit_every=100,
        broker_commit_interval=2.0,
        stream_wait_empty=False,
        web_enabled=False,
        worker_redirect_stdouts=False,
        loghandlers=[],
        datadir=str(Path(settings.data_dir) / "faust"),
    )
    channel = app.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    async def hand_over(stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message
            owners.get(message.partition).offer(
                message.offset, round(message.timestamp * 1000), message.value, event.ack
            )

    app.agent(channel, name=f"{group}.agent")(hand_over)

    async def assigned(_: Any, partitions: set[Any], **__: Any) -> None:
        wanted = {where.partition for where in partitions if where.topic == topic}
        for partition in [partition for partition in owners._owners if partition not in wanted]:  # noqa: SLF001
            await owners.stop(partition)
        for partition in sorted(wanted):
            owners.start(partition)

    app.on_partitions_assigned.connect(assigned)  # type: ignore[arg-type]
    return app, owners
