"""A worker process: one stage, its Faust app, its metrics page; ends cleanly on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from cdp_stream.metrics import IdentityMetrics, Metrics, ProfileMetrics
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.records import PROFILE_CHANGES
from cdp_stream.stream.app import build_app
from cdp_stream.stream.identity import IdentityOwner
from cdp_stream.stream.in_force import InForce, read_in_force, space_names
from cdp_stream.stream.kafka_log import KafkaLog, kafka_world
from cdp_stream.stream.owner import state_folder
from cdp_stream.stream.pages import Pages, Pulse, serve
from cdp_stream.stream.profiles import ProfileOwner
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.standby import Standbys
from cdp_stream.stream.topics import TopicNames, ensure_topics

STAGES = ("identity", "profiles")
_SWITCH_INTERVAL_S = 0.0005
"""How long a thread may hold the interpreter: the consumer has its own, and waits for the agent otherwise."""
_STOP_WITHIN_S = 6.0
_LEAVE_AFTER_S = 8.5
"""After a signal; a client in the middle of a rebalance can keep a clean end waiting for much longer."""
_FREEZE_EVERY_S = 60.0
log = logging.getLogger("cdp_stream.worker")


def run_stage(settings: Settings, topology: CompiledTopology, stage: str, *, apply: bool = False) -> None:
    """Run one stage until SIGTERM or SIGINT; returns when everything is closed."""
    Path(settings.data_dir).mkdir(parents=True, exist_ok=True)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # A default collection stops the world for hundreds of milliseconds on a large heap; nothing here makes cycles
    # at a rate that matters, and what they leave is collected once a minute, before the heap is frozen.
    gc.disable()
    asyncio.run(_run(settings, topology, stage, apply=apply))


async def _run(settings: Settings, topology: CompiledTopology, stage: str, *, apply: bool) -> None:
    in_force, names = await _topics(settings, topology)
    replaces = in_force.version if apply and in_force is not None else None

    async def topics_again() -> None:
        nonlocal names
        _, names = await _topics(settings, topology)

    async def is_ours(partition: int) -> bool:
        return await owners.is_ours(partition)

    world = replace(kafka_world(settings), is_ours=is_ours)
    state = state_folder(settings, names)
    metrics = Metrics()
    port = settings.metrics_port + STAGES.index(stage)
    group = f"{names.prefix}{names.space}.{stage}"
    if stage == "identity":
        identity_metrics = IdentityMetrics(metrics)
        app, owners = build_app(
            settings,
            group,
            names.identity_log,
            lambda _: IdentityOwner(settings, names, topology, identity_metrics, world, replaces=replaces),
            state,
        )
    else:
        profile_metrics = ProfileMetrics(metrics)
        app, owners = build_app(
            settings,
            group,
            names.of_role(PROFILE_CHANGES),
            lambda partition: ProfileOwner(settings, names, partition, profile_metrics, world),
            state,
        )
    owners.before_again = topics_again
    pulse = Pulse()
    if settings.metrics_port:
        serve(Pages(metrics.registry, stage, owners, pulse), port)
        log.info("metrics, health and readiness of stage %s on port %d", stage, port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _begin_to_stop, stop)
    await app.start()
    log.info("stage %s of space %s started", stage, names.space)
    beside = [loop.create_task(running) for running in (_freeze(), pulse.run())]
    if settings.standby:
        standbys = Standbys(settings, names, stage, world, owners.owned, metrics.standby(stage))
        owners.release = standbys.release
        beside.append(loop.create_task(standbys.run()))
    await stop.wait()
    log.info("stage %s: stopping", stage)
    for task in beside:
        task.cancel()
    # The partitions first: from here on nothing of ours is under way, so that the rest may take what it takes.
    await owners.stop_all()
    try:
        await asyncio.wait_for(app.stop(), _STOP_WITHIN_S)
    except TimeoutError:
        log.warning("the group was not left in time; the broker will notice")
    log.info("stage %s: stopped", stage)


def _begin_to_stop(stop: asyncio.Event) -> None:
    stop.set()
    timer = threading.Timer(_LEAVE_AFTER_S, _leave)
    timer.daemon = True
    timer.start()


def _leave() -> None:
    """End where it stands: the next owner goes on from the stored state, as after a crash, and nothing is lost."""
    log.warning("the clients did not close in time; ending without them, the broker will notice")
    logging.shutdown()
    os._exit(0)


async def _topics(settings: Settings, topology: CompiledTopology) -> tuple[InForce | None, TopicNames]:
    """The topology in force, and its topics, made where they are absent."""
    in_force = await read_in_force(KafkaLog(settings.aiokafka_options()), TopicNames.of(topology.topology, settings))
    names = space_names(settings, topology.topology, in_force)
    admin = AIOKafkaAdminClient(**settings.aiokafka_options())
    await admin.start()
    try:
        await ensure_topics(admin, names, settings.replication_factor)
    finally:
        await admin.close()
    return in_force, names


async def _freeze() -> None:
    while True:
        await asyncio.sleep(_FREEZE_EVERY_S)
        gc.collect(0)
        gc.freeze()
