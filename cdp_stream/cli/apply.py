"""`cdp-stream apply`: another topology version in force, through the log and with a word on what it changes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click
import orjson

from cdp_stream.cli.terminal import safe_json
from cdp_stream.cli.topology import load_compiled
from cdp_stream.config.difference import Difference, differences
from cdp_stream.config.succession import succession_problems
from cdp_stream.errors import CdpStreamError, TopologyError
from cdp_stream.pipeline import CompiledTopology

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


@click.command()
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until a worker has decided it.")
@click.option("--timeout", type=click.FloatRange(0, 3600), default=60, show_default=True, help="Seconds to wait.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for a program to read.")
def apply(topology: Path, wait: bool, timeout: float, as_json: bool) -> None:
    """Put TOPOLOGY in force in its space, for every record from here on, on the Kafka of CDP_STREAM_KAFKA.

    Prints what it changes, then appends one entry to the identity log. A running worker decides it at its place in the
    log, on every partition alike; without a worker it waits there. What is fixed for the life of a space, such as
    `partitions` and the keys, cannot change.

    \b
    Exit code 0: in force, or waiting in the log; 1: refused, or not decided in time; 3: not a valid topology, or none
    that can follow the one in force.

    \b
    Examples:
      cdp-stream apply topologies/ecommerce
      cdp-stream apply topologies/ecommerce --no-wait --json
    """
    from cdp_stream.stream.settings import Settings

    compiled = load_compiled(topology)
    result = asyncio.run(_apply(Settings.from_environ(os.environ), compiled, timeout if wait else 0))
    if as_json:
        click.echo(orjson.dumps(result, default=_plain))
    else:
        _show(result)
    if result["outcome"] in {"refused", "undecided"}:
        raise SystemExit(1)


async def _apply(settings: Any, compiled: CompiledTopology, within_s: float) -> dict[str, Any]:
    from aiokafka.admin import AIOKafkaAdminClient

    from cdp_stream.stream.controls import outcome_of, send_apply
    from cdp_stream.stream.in_force import read_in_force, space_names
    from cdp_stream.stream.kafka_log import KafkaLog
    from cdp_stream.stream.sources import find_sources
    from cdp_stream.stream.topics import TopicNames, ensure_topics

    log = KafkaLog(settings.aiokafka_options())
    proposed_names = TopicNames.of(compiled.topology, settings)
    in_force = await read_in_force(log, proposed_names)
    if in_force is None:
        raise CdpStreamError(
            f"no topology is in force in space {compiled.space} yet: the first `cdp-stream worker` puts its file in force"
        )
    names = space_names(settings, compiled.topology, in_force)
    result: dict[str, Any] = {
        "outcome": "in_force",
        "space": compiled.space,
        "version": compiled.version,
        "based_on": in_force.version,
        "changes": differences(in_force.topology, compiled.topology),
    }
    if in_force.version == compiled.version:
        return result
    problems = succession_problems(in_force.topology, compiled.topology, in_force.barrier.retired)
    if problems:
        raise TopologyError("topology", problems)
    await find_sources(log, proposed_names.sources)
    admin = AIOKafkaAdminClient(**settings.aiokafka_options())
    await admin.start()
    try:
        await ensure_topics(admin, proposed_names, settings.replication_factor)
    finally:
        await admin.close()
    sent = await send_apply(settings, names, compiled, in_force)
    result |= {"outcome": "waiting", "control": sent.control.id, "entry": sent.offset}
    return {**result, **await outcome_of(settings, names, sent, within_s, done="applied")}


def _show(result: dict[str, Any]) -> None:
    for difference in result["changes"]:
        for line in difference_lines(difference):
            click.echo(line)
    version, based_on = result["version"], result["based_on"]
    match result["outcome"]:
        case "in_force":
            click.echo(f"version {version} is in force already; nothing to do")
        case "applied":
            click.echo(f"version {version} is in force, instead of {based_on}")
        case "refused":
            click.echo(f"version {version} was {result['violation']}", err=True)
        case "undecided":
            click.echo(f"version {version} stands in the log at entry {result['entry']}, not decided in time", err=True)
        case _:
            click.echo(f"version {version} stands in the identity log at entry {result['entry']}, based on {based_on}")
            if not result["workers"]:
                click.echo("no worker runs; it comes into force when one does", err=True)


def difference_lines(difference: Difference) -> list[str]:
    """A difference for people: one line, and below it what differs inside."""
    lines = [f"{_SIGNS[difference.kind]} {difference.path}"]
    for name, (before, after) in difference.fields.items():
        match difference.kind:
            case "changed":
                lines.append(f"    {name}: {safe_json(before)} -> {safe_json(after)}")
            case "added" if name in {"definition", "topic", "limit"}:
                lines.append(f"    {name}: {safe_json(after)}")
    return lines


def _plain(value: Any) -> Any:
    assert isinstance(value, Difference), value
    return {
        "path": value.path,
        "kind": value.kind,
        "fields": {name: {"before": before, "after": after} for name, (before, after) in value.fields.items()},
    }
