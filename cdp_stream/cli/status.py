"""`cdp-stream status`: how a space stands, from its topics and groups alone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click
import orjson

from cdp_stream.cli.terminal import safe
from cdp_stream.cli.topology import load_compiled


@click.command()
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for a program to read.")
def status(topology: Path, as_json: bool) -> None:
    """Show how TOPOLOGY's space stands on the Kafka of CDP_STREAM_KAFKA.

    Which topology is in force and whether the file is it, stream time, how far each stage and partition is, who is a
    member of the groups, what waits, and the dead letters by reason. Reads topics and groups only.

    \b
    Examples:
      cdp-stream status topologies/ecommerce
      cdp-stream status topologies/ecommerce --json | jq '.sources[].lag'
    """
    from cdp_stream.stream.settings import Settings
    from cdp_stream.stream.status import space_status

    found = asyncio.run(space_status(Settings.from_environ(os.environ), load_compiled(topology)))
    if as_json:
        click.echo(orjson.dumps(found))
    else:
        for line in status_lines(found):
            click.echo(safe(line))


def status_lines(found: dict[str, Any]) -> list[str]:
    """The status for people."""
    topology, letters, identity = found["topology"], found["dead_letters"], found["identity"]
    last = identity["last_entry"]
    lines = [
        f"space      {found['space']}",
        f"topology   {topology['in_force']} in force"
        + (
            "" if topology["file_is_in_force"] else f"; the file is {topology['file']}: take it with `cdp-stream apply`"
        ),
        f"now        {found['now']}",
        f"profiles   {found['profiles_created']} created, {found['profiles_parked']} waiting for a merge",
    ]
    for group, what in found["groups"].items():
        lines.append(f"group      {group}: {_count(what['members'], 'member')}")
    lines += [f"source     {part['topic']}/{part['partition']}: {_lag(part)}" for part in found["sources"]]
    said = f", last a {last['entry']} at {last['appended']}" if last else ""
    lines.append(f"identity   entries: {_lag(identity)}{said}")
    lines += [
        f"profiles   {part['partition']}: changes {_lag(part['changes'])}; shipments {_lag(part['shipments'])}"
        + (f"; {part['parked']} waiting" if part["parked"] else "")
        + _backfill(part["backfill"])
        for part in found["profiles"]
    ]
    counted = ", ".join(f"{reason} {count}" for reason, count in letters["by_reason"].items()) or "none"
    of_latest = f" (of the latest {letters['counted']})" if letters["earlier"] else ""
    lines.append(f"dead       {counted}{of_latest}" + (f"; last at {letters['last']}" if letters["last"] else ""))
    return lines


def _backfill(backfill: dict[str, Any] | None) -> str:
    if backfill is None:
        return ""
    share, count = backfill["progress"], _count(backfill["profiles"], "profile")
    return f"; backfill for {backfill['to']} at {share:.0%}, {count} done"


def _lag(place: dict[str, Any]) -> str:
    return (
        f"{place['position']} of {place['end']}, {place['lag']} behind"
        if place["lag"]
        else f"{place['end']}, at the end"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
