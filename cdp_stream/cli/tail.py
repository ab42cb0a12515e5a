"""`cdp-stream tail`: what the workers write, as it comes, a line a record."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import orjson

from cdp_stream.cli.terminal import safe, safe_json
from cdp_stream.cli.topology import load_compiled

_ROLES: Final = {
    "ledger": "ledger",
    "audiences": "audience-changes",
    "traits": "trait-changes",
    "destinations": "",
    "dead-letters": "dead-letters",
}


@click.command()
@click.argument("what", type=click.Choice(list(_ROLES)))
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--profile", help="Only records of this profile id.")
@click.option("--from-beginning", is_flag=True, help="Begin with the earliest record instead of the next one.")
@click.option("--limit", type=click.IntRange(1), help="End after this many records.")
@click.option("--json", "as_json", is_flag=True, help="Print each record as JSON, one a line, with its topic.")
def tail(
    what: str, topology: Path, profile: str | None, from_beginning: bool, limit: int | None, as_json: bool
) -> None:
    """Follow WHAT the workers of TOPOLOGY's space write, until Ctrl-C.

    Values are shown as they are, personal data included; control characters are escaped.

    \b
    Examples:
      cdp-stream tail audiences topologies/ecommerce
      cdp-stream tail ledger topologies/ecommerce --from-beginning --limit 20
      cdp-stream tail destinations topologies/ecommerce --json | jq .value
    """
    from cdp_stream.stream.settings import Settings

    following = _tail(Settings.from_environ(os.environ), load_compiled(topology), what, from_beginning=from_beginning)
    line = _json_line if as_json else _LINES[what]
    asyncio.run(_print(following, line, profile, limit))


async def _tail(settings: Any, compiled: Any, what: str, *, from_beginning: bool) -> Any:
    from cdp_stream.stream.kafka_log import KafkaLog
    from cdp_stream.stream.reading import follow, names_in_force

    names = await names_in_force(settings, compiled)
    topics = [topic for _, topic in names.destinations] if what == "destinations" else [names.of_role(_ROLES[what])]
    if not topics:
        click.echo("the topology has no destinations", err=True)
    async for record in follow(KafkaLog(settings.aiokafka_options()), topics, from_beginning=from_beginning):
        yield record


async def _print(
    following: Any, line: Callable[[Any, dict[str, Any]], str], profile: str | None, limit: int | None
) -> None:
    shown = 0
    try:
        async for record in following:
            if profile is not None and (record.key or b"").decode(errors="replace") != profile:
                continue
            click.echo(line(record, orjson.loads(record.value)))
            shown += 1
            if shown == limit:
                return
    except asyncio.CancelledError:
        # Ctrl-C: the reader has seen enough.
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
    finally:
        await following.aclose()


def _json_line(record: Any, row: dict[str, Any]) -> str:
    key = (record.key or b"").decode(errors="replace")
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "key": key, "value": row}
    return orjson.dumps(place).decode()


def ledger_line(_: Any, row: dict[str, Any]) -> str:
    """A decision."""
    parts = [row["now"], row["decision"], row.get("profile_id", "")]
    parts += [_ids(row["identifiers"])] if "identifiers" in row else []
    parts += ["absorbs " + " ".join(row["absorbed"])] if "absorbed" in row else []
    parts += ["leaves out " + _ids(row["demoted"])] if "demoted" in row else []
    parts += [f"({row['violation']})"] if "violation" in row else []
    parts += [f"topology {row['topology_version']}"] if row["decision"] == "topology_applied" else []
    return safe("  ".join(part for part in parts if part))


def audience_line(_: Any, row: dict[str, Any]) -> str:
    """An entry or exit."""
    ids = " ".join(f"{type_}:{value}" for type_, values in row["external_ids"].items() for value in values)
    into = f" into {row['into']}" if "into" in row else ""
    said = f"{row['change']} {row['audience_key']} ({row['cause']}{into})"
    return safe(f"{row['now']}  {row['profile_id']}  {said}  {ids}")


def trait_line(_: Any, row: dict[str, Any]) -> str:
    """A changed trait."""
    before, after = safe_json(row["previous"]), safe_json(row["value"])
    return safe(f"{row['now']}  {row['profile_id']}  {row['class']} {row['trait_key']}: ") + f"{before} -> {after}"


def destination_line(record: Any, row: dict[str, Any]) -> str:
    """A message, whole."""
    return f"{safe(record.topic)}  {safe_json(row)}"


def dead_letter_line(record: Any, row: dict[str, Any]) -> str:
    """An unusable record: its number, by which `dead-letters explain` knows it, and why."""
    source = row["source"]
    place = f"{source['topic']}/{source['partition']}/{source['offset']}"
    field = f" {row['field']}" if row["field"] else ""
    return safe(
        f"{row['now']}  #{record.offset}  {row['reason']}{field}  {place}  {row['size']} bytes: {row['detail']}"
    )


def _ids(identifiers: list[dict[str, str]]) -> str:
    return " ".join(f"{found['type']}:{found['id']}" for found in identifiers)


_LINES: Final[dict[str, Callable[[Any, dict[str, Any]], str]]] = {
    "ledger": ledger_line,
    "audiences": audience_line,
    "traits": trait_line,
    "destinations": destination_line,
    "dead-letters": dead_letter_line,
}
