"""What became of an order, in words: for the commands that append one to the identity log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cdp_stream.stream.source_orders import Answer


def show(answer: Answer) -> None:
    """Print it. Exits with 1 when the order was refused, or a worker runs and has not decided it in time."""
    match answer.outcome:
        case "done":
            click.echo(f"done, at entry {answer.entry} of the identity log")
        case "refused":
            click.echo(f"{answer.violation}", err=True)
            raise SystemExit(1)
        case _ if answer.workers:
            click.echo(f"stands in the identity log at entry {answer.entry}, not decided in time", err=True)
            raise SystemExit(1)
        case _:
            click.echo(f"stands in the identity log at entry {answer.entry}; the next worker does it")
