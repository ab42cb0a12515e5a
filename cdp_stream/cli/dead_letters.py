"""`cdp-stream dead-letters`: what could not be used, why, and how to put it in again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, get_args

import click
import orjson

from cdp_stream.cli.terminal import safe
from cdp_stream.cli.topology import load_compiled
from cdp_stream.errors import CdpStreamError
from cdp_stream.intake.reasons import REASONS
from cdp_stream.model.event import DeadLetterReason

_SHOWN_BYTES: Final = 4_096
_Filter = Callable[[Any], bool]


@click.group("dead-letters")
def dead_letters() -> None:
    """List, explain and replay the records that could not be used."""


def _filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose letters, as one argument `passes`."""

    @wraps(command)
    def with_filter(*, reason: str | None, field: str | None, source: str | None, **more: Any) -> None:
        wanted = {"reason": reason, "field": field, "topic": source}

        def passes(letter: Any) -> bool:
            given = {**letter.row, "topic": letter.row["source"]["topic"]}
            return all(value is None or given[name] == value for name, value in wanted.items())

        command(passes=passes, **more)

    chosen: Callable[..., None] = with_filter
    for option in (
        click.option("--source", help="Only of this source topic."),
        click.option("--field", help="Only with this field."),
        click.option("--reason", type=click.Choice(get_args(DeadLetterReason)), help="Only with this reason."),
    ):
        chosen = option(chosen)
    return chosen


@dead_letters.command("list")
@click.argument("topology", type=click.Path(path_type=Path))
@_filtered
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a group, one a line.")
def list_(topology: Path, passes: _Filter, as_json: bool) -> None:
    """Group the dead letters of TOPOLOGY's space by reason, field and source, the most frequent first.

    \b
    Example:
      cdp-stream dead-letters list topologies/ecommerce --reason wrong_type
    """
    _, letters = asyncio.run(_read(topology, passes))
    groups = grouped(letters)
    for group in groups:
        if as_json:
            click.echo(orjson.dumps(group))
        else:
            where = f" {group['field']}" if group["field"] else ""
            said = f"{group['count']:>8}  {group['reason']}{where}  {group['source']}"
            click.echo(safe(f"{said}  #{group['first']} to #{group['last']}, last at {group['last_now']}"))
    if not groups:
        click.echo("no dead letters", err=True)


def grouped(letters: list[Any]) -> list[dict[str, Any]]:
    """Dead letters by reason, field and source: how many, the first and the last."""
    groups: dict[tuple[str, str, str], dict[str, Any]] = {}
    for letter in letters:
        row = letter.row
        key = (row["reason"], row["field"] or "", row["source"]["topic"])
        new = {
            "reason": row["reason"],
            "field": row["field"],
            "source": row["source"]["topic"],
            "count": 0,
            "first": letter.number,
        }
        group = groups.setdefault(key, new)
        group |= {"count": group["count"] + 1, "last": letter.number, "last_now": row["now"]}
    return [group for _, group in sorted(groups.items(), key=lambda pair: (-pair[1]["count"], pair[0]))]


@dead_letters.command()
@click.argument("number", type=click.IntRange(0))
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for a program to read.")
def explain(number: int, topology: Path, as_json: bool) -> None:
    """Explain dead letter NUMBER of TOPOLOGY's space: what is wrong, what to do, and the original bytes.

    The number is the one that `list` and `tail dead-letters` show: its offset in the dead-letter topic.

    \b
    Example:
      cdp-stream dead-letters explain 17 topologies/ecommerce
    """
    _, letters = asyncio.run(_read(topology, lambda letter: bool(letter.number == number)))
    if not letters:
        raise CdpStreamError(f"there is no dead letter {number}, or retention has removed it")
    row, meant = letters[0].row, REASONS[letters[0].row["reason"]]
    if as_json:
        click.echo(orjson.dumps({"number": number, "meaning": meant.meaning, "remedy": meant.remedy, **row}))
        return
    cut = ", of which the topic keeps the beginning" if row["truncated"] else ""
    lines = {
        "reason": row["reason"],
        "field": row["field"] or "-",
        "detail": row["detail"],
        "meaning": meant.meaning,
        "remedy": meant.remedy,
        "origin": f"{letters[0].origin}, Kafka timestamp {row['source']['timestamp']}",
        "size": f"{row['size']} bytes{cut}",
    }
    for name, text in lines.items():
        click.echo(safe(f"{name:<8}{text}"))
    click.echo("value   " + shown_bytes(letters[0].value))


def shown_bytes(value: bytes) -> str:
    """Bytes for a terminal: text with escapes where they are UTF-8, else their Python form; at most some kilobytes."""
    shown = value[:_SHOWN_BYTES]
    try:
        text = safe(shown.decode("utf-8"))
    except UnicodeDecodeError:
        text = repr(shown)
    more = len(value) - len(shown)
    return text + (f" … and {more} bytes more" if more else "")


@dead_letters.command()
@click.argument("topology", type=click.Path(path_type=Path))
@_filtered
@click.option("--number", "numbers", type=click.IntRange(0), multiple=True, help="Only this one; may be repeated.")
@click.option("--yes", is_flag=True, help="Do it. Without, only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for a program to read.")
def replay(topology: Path, passes: _Filter, numbers: tuple[int, ...], yes: bool, as_json: bool) -> None:
    """Put dead letters of TOPOLOGY's space into their source topics again, after what was wrong has been put right.

    Left out are records whose bytes would be refused again, and those of which the topic keeps the beginning only. A
    record put in again carries the header `cdp-replay-of`; it is decided at its new place in the log. One whose message
    id was used within the dedupe horizon is a duplicate and does nothing; one without a message id gets another each
    time, so put it in once.

    \b
    Examples:
      cdp-stream dead-letters replay topologies/ecommerce --reason no_identifiers
      cdp-stream dead-letters replay topologies/ecommerce --reason no_identifiers --yes
    """
    from cdp_stream.stream.dead_letters import put_again

    settings, letters = asyncio.run(
        _read(topology, lambda letter: (not numbers or letter.number in numbers) and passes(letter))
    )
    truncated = [letter for letter in letters if letter.row["truncated"]]
    whole = [letter for letter in letters if not letter.row["truncated"]]
    refused = [letter for letter in whole if letter.still_refused() is not None]
    fit = [letter for letter in whole if letter.still_refused() is None]
    if yes and fit:
        asyncio.run(put_again(settings, fit))
    result = {"found": len(letters), "fit": len(fit), "put_again": len(fit) if yes else 0,
              "left_out": {"refused_again": len(refused), "truncated": len(truncated)}}  # fmt: skip
    if as_json:
        click.echo(orjson.dumps(result))
        return
    click.echo(f"{len(letters)} found: {len(fit)} fit to be put in again, {len(refused)} would be refused again, "
               f"{len(truncated)} are kept in part only")  # fmt: skip
    if yes:
        click.echo(f"{len(fit)} put in again")
    elif fit:
        click.echo("nothing was sent; add --yes to do it", err=True)


async def _read(topology: Path, passes: _Filter) -> tuple[Any, list[Any]]:
    from cdp_stream.stream.dead_letters import read_letters
    from cdp_stream.stream.reading import names_in_force
    from cdp_stream.stream.settings import Settings

    settings = Settings.from_environ(os.environ)
    names = await names_in_force(settings, load_compiled(topology))
    return settings, [letter async for letter in read_letters(settings, names) if passes(letter)]
