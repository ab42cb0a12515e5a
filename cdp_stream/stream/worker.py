"""A worker process: one stage, its Faust app, its metrics page; ends cleanly on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import faust
import uvloop
from aiokafka.admin import AIOKafkaAdminClient

from cdp_stream.metrics import IdentityMetrics, Metrics, ProfileMetrics
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.records import PROFILE_CHANGES
from cdp_stream.stream.app import build_app
from cdp_stream.stream.checkpoints import OpenStores, answer_requests
from cdp_stream.stream.ending import Ending
from cdp_stream.stream.identity import IdentityOwner
from cdp_stream.stream.in_force import InForce, read_in_force, space_names
from cdp_stream.stream.kafka_log import KafkaLog, kafka_world
from cdp_stream.stream.memory import GiveBack, share_arenas
from cdp_stream.stream.owner import state_folder
from cdp_stream.stream.owners import Owners
from cdp_stream.stream.pages import Pages, Pulse, serve
from cdp_stream.stream.profiles import ProfileOwner
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.standby import Standbys
from cdp_stream.stream.topics import TopicNames, ensure_topics

STAGES = ("identity", "profiles")
_SWITCH_INTERVAL_S = 0.0005
"""How long a thread may hold the interpreter: the group's client has one of its own, and must not miss its heartbeats."""
_STOP_WITHIN_S = 6.0
_COLLECT_EVERY_S = 2.0
"""To look at all that came in half a minute takes 45 ms, in which nobody is served."""
_COLLECTIONS_A_FREEZE = 15
log = logging.getLogger("cdp_stream.worker")


def run_stage(settings: Settings, topology: CompiledTopology, stage: str, *, apply: bool = False) -> None:
    """Run one stage until SIGTERM or SIGINT. Once it has begun it ends the process, and does not return.

    Raises CdpStreamError where it cannot begin.
    """
    ending = Ending()
    ending.watch()
    Path(settings.data_dir).mkdir(parents=True, exist_ok=True)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # A default collection stops the world for hundreds of milliseconds on a large heap; nothing here makes cycles
    # at a rate that matters, and what they leave is collected now and then, before the heap is frozen.
    gc.disable()
    share_arenas()
    uvloop.run(_run(settings, topology, stage, ending, apply=apply))


async def _run(settings: Settings, topology: CompiledTopology, stage: str, ending: Ending, *, apply: bool) -> None:
    in_force, names = await _topics(settings, topology)
    replaces = in_force.version if apply and in_force is not None else None

    async def topics_again() -> None:
        nonlocal names
        _, names = await _topics(settings, topology)

    async def is_ours(partition: int) -> bool:
        return await owners.is_ours(partition)

    stores = OpenStores()
    world = replace(kafka_world(settings), open_store=stores.open, is_ours=is_ours)
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
            ending.fail,
        )
    else:
        profile_metrics = ProfileMetrics(metrics)
        app, owners = build_app(
            settings,
            group,
            names.of_role(PROFILE_CHANGES),
            lambda partition: ProfileOwner(settings, names, partition, profile_metrics, world),
            state,
            ending.fail,
        )
    owners.before_again = topics_again
    pulse = Pulse()
    if settings.metrics_port:
        serve(Pages(metrics.registry, stage, owners, pulse), port)
        log.info("metrics, health and readiness of stage %s on port %d", stage, port)
    beside = [_freeze(), pulse.run(), answer_requests(stores, state)]
    if settings.standby:
        standbys = Standbys(settings, names, stage, world, owners.owned, metrics.standby(stage))
        owners.release = standbys.release
        beside.append(standbys.run())
    await _serve(app, owners, beside, ending)


async def _serve(app: faust.App, owners: Owners, running: Sequence[Coroutine[Any, Any, None]], ending: Ending) -> None:
    """Start, run until a signal, stop; ends the process, with a failure at any moment too."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    ending.begin_with(lambda: loop.call_soon_threadsafe(stop.set))
    try:
        asked = loop.create_task(stop.wait())
        beside = [loop.create_task(each) for each in (_start(app), *running)]
        await asyncio.wait({asked, *beside}, return_when=asyncio.FIRST_COMPLETED)
        for task in beside:
            if task.done():
                task.result()
            task.cancel()
        log.info("stopping")
        # The partitions first: from here on nothing of ours is under way, so that the rest may take what it takes.
        await owners.stop_all()
        await asyncio.wait_for(app.stop(), _STOP_WITHIN_S)
    except TimeoutError:
        log.warning("the group was not left in time; the broker will notice")
    except BaseException as error:  # noqa: BLE001 - every failure ends the process
        ending.fail(error)
    log.info("stopped")
    ending.leave()


async def _start(app: faust.App) -> None:
    await app.start()
    log.info("started")
    await asyncio.Event().wait()


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
    give_back = GiveBack()
    for number in count(1):
        await asyncio.sleep(_COLLECT_EVERY_S)
        is_time = number % _COLLECTIONS_A_FREEZE == 0
        gc.collect(1 if is_time else 0)
        if is_time:
            gc.freeze()
            await asyncio.to_thread(give_back)
