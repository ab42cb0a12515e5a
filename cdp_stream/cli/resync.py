"""`cdp-stream resync`: a destination is told of all present members of an audience again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click
import orjson

from cdp_stream.cli.topology import load_compiled
from cdp_stream.errors import CdpStreamError, UsageError
from cdp_stream.pipeline import CompiledTopology


@click.command()
@click.argument("audience")
@click.argument("destination")
@click.argument("topology", type=click.Path(path_type=Path), default=".")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until a worker has decided it.")
@click.option("--timeout", type=click.FloatRange(0, 3600), default=60, show_default=True, help="Seconds to wait.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for a program to read.")
def resync(audience: str, destination: str, topology: Path, wait: bool, timeout: float, as_json: bool) -> None:
    """Tell DESTINATION of every present member of AUDIENCE again, on the Kafka of CDP_STREAM_KAFKA.

    Appends one entry to the identity log; workers decide it at its place there. An event destination is told `entered`
    for every combination of every member at once; a list gets the whole list at its next sync. TOPOLOGY names the
    space; by default it is the topology.yaml in this folder.

    \b
    Exit code 0: decided, or waiting in the log; 1: refused, or not decided in time.

    \b
    Examples:
      cdp-stream resync big_spenders crm topologies/ecommerce
      cd topologies/ecommerce && cdp-stream resync big_spenders crm
    """
    from cdp_stream.stream.settings import Settings

    compiled = load_compiled(topology)
    settings = Settings.from_environ(os.environ)
    result = asyncio.run(_resync(settings, compiled, (audience, destination), timeout if wait else 0))
    if as_json:
        click.echo(orjson.dumps(result))
    else:
        click.echo(_line(result), err=result["outcome"] in {"refused", "undecided"})
    if result["outcome"] in {"refused", "undecided"}:
        raise SystemExit(1)


async def _resync(settings: Any, compiled: CompiledTopology, what: tuple[str, str], within_s: float) -> dict[str, Any]:
    from cdp_stream.stages.orders import resync_entry
    from cdp_stream.stream.controls import outcome_of, send_order
    from cdp_stream.stream.in_force import read_in_force, space_names
    from cdp_stream.stream.kafka_log import KafkaLog
    from cdp_stream.stream.topics import TopicNames

    log = KafkaLog(settings.aiokafka_options())
    in_force = await read_in_force(log, TopicNames.of(compiled.topology, settings))
    if in_force is None:
        raise CdpStreamError(f"no topology is in force in space {compiled.space} yet: there is nobody to tell of")
    _require(in_force.topology, *what)
    names = space_names(settings, compiled.topology, in_force)
    sent = await send_order(settings, names, lambda end, clock: resync_entry(*what, end, clock))
    result: dict[str, Any] = {"outcome": "waiting", "audience": what[0], "destination": what[1], "entry": sent.offset}
    return {**result, **await outcome_of(settings, names, sent, within_s, done="resynced")}


def _require(topology: Any, audience: str, destination: str) -> None:
    """Raise UsageError for an audience that the space does not have, or that does not go there."""
    by_key = {one.key: one for one in topology.audiences}
    if audience not in by_key:
        raise UsageError(f"no audience {audience!r} is in force; there are: {', '.join(by_key) or 'none'}")
    named = by_key[audience].destinations
    if destination not in named:
        raise UsageError(
            f"the audience {audience!r} does not go to {destination!r}; it goes to: {', '.join(named) or 'none'}"
        )


def _line(result: dict[str, Any]) -> str:
    what = f"resync of {result['audience']} to {result['destination']}"
    match result["outcome"]:
        case "resynced":
            return f"{what} is in the log and decided, at {result['seq']}"
        case "refused":
            return f"{what} was {result['violation']}"
        case "undecided":
            return f"{what} stands in the log at entry {result['entry']}, not decided in time"
        case _:
            later = "" if result["workers"] else "; no worker runs, it is done when one does"
            return f"{what} stands in the identity log at entry {result['entry']}{later}"
