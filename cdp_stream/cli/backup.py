"""`cdp-stream backup`: a copy of a space's state on this machine, also while its worker runs."""

from __future__ import annotations

import os
from pathlib import Path

import click
import msgspec

from cdp_stream.cli.topology import load_compiled


@click.command()
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--to", required=True, type=click.Path(path_type=Path), help="A folder that is absent or empty.")
@click.option(
    "--timeout", type=click.FloatRange(1, 3600), default=60, show_default=True, help="Seconds to wait for the worker."
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
def backup(topology: Path, to: Path, timeout: float, as_json: bool) -> None:
    """Copy the state of TOPOLOGY's space that lies in CDP_STREAM_DATA_DIR on this machine.

    A worker that runs there goes on: it is asked for a checkpoint of each partition, which takes it milliseconds, and
    the copying is done here. Each partition is consistent in itself; whoever restores it takes from the changelog what
    came after. A backup that was interrupted has no manifest.json and is not accepted by `restore`.

    \b
    Exit codes: 0 the backup is complete and on the disk; 1 a worker gave no copy; 2 a folder that cannot be used.

    \b
    Examples:
      cdp-stream backup topologies/ecommerce --to /backups/ecommerce-monday
      cdp-stream backup topologies/ecommerce --to /backups/$(date +%F) --json
    """
    from cdp_stream.cli.copying import copying
    from cdp_stream.stream.backup import back_up
    from cdp_stream.stream.kafka_log import wall_clock_ms
    from cdp_stream.stream.owner import state_folder
    from cdp_stream.stream.settings import Settings
    from cdp_stream.stream.topics import TopicNames

    compiled = load_compiled(topology)
    settings = Settings.from_environ(os.environ)
    names = TopicNames.of(compiled.topology, settings)
    with copying("copying") as begin:
        manifest = back_up(state_folder(settings, names), to, names, wall_clock_ms(), timeout, begin)
    if as_json:
        click.echo(msgspec.json.encode(manifest))
        return
    for copy in manifest.copies:
        where = f"{copy.size / 1e6:10.1f} MB  to changelog offset {copy.changelog_offset}"
        click.echo(f"{copy.folder:14} {where}")
    for name in manifest.left_out:
        click.echo(f"{name:14} left out: too old to go on from, the changelog has forgotten deletions since", err=True)
    click.echo(f"{to}: {len(manifest.copies)} partitions, {manifest.size / 1e6:.1f} MB")
