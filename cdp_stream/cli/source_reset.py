"""`cdp-stream source-reset`: read a source that was deleted and made anew; through the log, and on record in the ledger."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from cdp_stream.cli.topology import load_compiled
from cdp_stream.pipeline import CompiledTopology


@click.command("source-reset")
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--topic", required=True, help="The source's topic, as the topology names it.")
@click.option("--yes", is_flag=True, help="Do it; without this it only says what would be given up.")
@click.option("--timeout", type=click.FloatRange(0, 3600), default=60, show_default=True, help="Seconds to wait.")
def source_reset(topology: Path, topic: str, yes: bool, timeout: float) -> None:
    """Read a source of TOPOLOGY that was deleted and made anew from its earliest records, so that the space goes on.

    A worker stops when a source is another topic than the one it has read. What stood in the old one and was not read
    is gone; the new one is read from its beginning. Refused for a topic that is still the same. The order stands in the
    identity log, its decision in the ledger (`source_reset`).

    \b
    Exit code 0: done, or waiting in the log for a worker; 1: refused; 2: it is not a source that was made anew.

    \b
    Example:
      cdp-stream source-reset topologies/ecommerce --topic ecommerce.events --yes
    """
    asyncio.run(_reset(load_compiled(topology), topic, timeout if yes else None))


async def _reset(compiled: CompiledTopology, topic: str, within_s: float | None) -> None:
    from cdp_stream.cli.orders import show
    from cdp_stream.stream.settings import Settings
    from cdp_stream.stream.source_orders import SourceOrders

    orders = await SourceOrders.of(Settings.from_environ(os.environ), compiled)
    for partition, offset in (await orders.positions(topic)).items():
        click.echo(f"{topic}/{partition}: was read up to {offset}; what came after it is given up")
    if within_s is None:
        click.echo("nothing is done yet; add --yes", err=True)
    else:
        show(await orders.reset(topic, within_s))
