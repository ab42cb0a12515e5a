"""`cdp-stream accept-loss`: go on behind records of a source that are gone; through the log, and on record in the ledger."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from cdp_stream.cli.topology import load_compiled
from cdp_stream.pipeline import CompiledTopology


@click.command("accept-loss")
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--topic", required=True, help="The source's topic, as the topology names it.")
@click.option("--partition", required=True, type=click.IntRange(0), help="The partition that lost records.")
@click.option("--to", type=click.IntRange(0), help="Where to go on.  [default: at the earliest record still there]")
@click.option("--yes", is_flag=True, help="Do it; without this it only says what would be given up.")
@click.option("--timeout", type=click.FloatRange(0, 3600), default=60, show_default=True, help="Seconds to wait.")
def accept_loss(topology: Path, topic: str, partition: int, to: int | None, yes: bool, timeout: float) -> None:
    """Give up records of a source of TOPOLOGY that were removed before they were read, so that the space goes on.

    A worker stops when retention has removed what it was to read next, and says which records. Nothing else moves its
    position. The order stands in the identity log, its decision in the ledger (`loss_accepted`).

    \b
    Exit code 0: done, or waiting in the log for a worker; 1: refused; 2: there is nothing to give up.

    \b
    Example:
      cdp-stream accept-loss topologies/ecommerce --topic ecommerce.events --partition 3 --yes
    """
    asyncio.run(_accept(load_compiled(topology), topic, partition, to, timeout if yes else None))


async def _accept(
    compiled: CompiledTopology, topic: str, partition: int, to: int | None, within_s: float | None
) -> None:
    from cdp_stream.cli.orders import show
    from cdp_stream.stream.settings import Settings
    from cdp_stream.stream.source_orders import SourceOrders

    orders = await SourceOrders.of(Settings.from_environ(os.environ), compiled)
    loss = await orders.loss(topic, partition, to)
    click.echo(f"{loss.topic}/{loss.partition}: offsets {loss.position} to {loss.to - 1} are given up")
    if within_s is None:
        click.echo("nothing is done yet; add --yes", err=True)
    else:
        show(await orders.accept(loss, within_s))
