"""The Faust app of one stage: an agent on its input topic, and an owner for each partition that is assigned to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faust
from faust.tables.manager import TableManager

from cdp_stream.stream.assignor import Holding, assignor_for
from cdp_stream.stream.consumer import GatheringConsumer
from cdp_stream.stream.membership import group_membership
from cdp_stream.stream.owners import Owners, PartitionOwner
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import MESSAGE_BYTES_MAX


class NoTables(TableManager):
    """Faust's own, which gives an app a second to declare its tables before it subscribes to anything. Ours has none."""

    async def on_start(self) -> None:
        """Begin at once."""
        await self._update_channels()
        await self.recovery.start()


class _App(faust.App):
    """An app of which no service fails by itself: `fail` is given the reason, and does not return."""

    fail: Callable[[BaseException], None]

    def _crash(self, reason: BaseException) -> None:
        """Called by a service that failed, for itself and all that it belongs to."""
        self.fail(reason)
        super()._crash(reason)

    def _new_transport(self) -> Any:
        transport: Any = super()._new_transport()
        transport.Consumer = GatheringConsumer
        return transport

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        """Otherwise Faust takes the failed message for done, and goes on with the next."""
        self.fail(exc)
        await super()._on_agent_error(agent, exc)


def build_app(
    settings: Settings,
    group: str,
    topic: str,
    make_owner: Callable[[int], PartitionOwner],
    state: Path,
    fail: Callable[[BaseException], None],
) -> tuple[faust.App, Owners]:
    """A Faust app whose agent tells the owners of the partitions of `topic` how far these have come.

    `state`: the folder below which each partition's state lies, in `<stage>-<partition>`. `fail`: given whatever fails
    in a service, a thread or the agent of the app, or ends an owner for good.
    """
    owners = Owners(make_owner, settings.claim_renew_s, fail)
    stage = group.rpartition(".")[2]

    def holding() -> Holding:
        generation = getattr(app, "consumer_generation_id", -1)
        stored = sorted(int(found.name.rpartition("-")[2]) for found in state.glob(f"{stage}-*") if found.is_dir())
        return Holding(generation, tuple(owners.owned()), tuple(stored))

    app = _App(
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
        # Only for display: where a partition stands is in its state.
        broker_commit_every=10_000,
        broker_commit_interval=2.0,
        stream_wait_empty=False,
        web_enabled=False,
        worker_redirect_stdouts=False,
        loghandlers=[],
        PartitionAssignor=assignor_for(holding),
        # Not that there were tables: only then does Faust take the assignor that it is given.
        table_standby_replicas=1,
        TableManager=NoTables,
        datadir=str(Path(settings.data_dir) / "faust"),
    )
    app.fail = fail
    channel = app.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    async def tell(stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message
            owner = owners.get(message.partition)
            if owner is None:
                # Between two claims: the owner to come reads what stands in the log by itself.
                event.ack()
            else:
                owner.hear(message.offset, event.ack)

    app.agent(channel, name=f"{group}.agent")(tell)

    async def assigned(_: Any, partitions: set[Any], **__: Any) -> None:
        owners.assign({where.partition for where in partitions if where.topic == topic})

    app.on_partitions_assigned.connect(assigned)  # type: ignore[arg-type]
    owners.membership = group_membership(app, topic)
    return app, owners
