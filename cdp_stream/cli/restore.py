"""`cdp-stream restore`: the state of a space from a backup."""

from __future__ import annotations

import os
from pathlib import Path

import click
import msgspec

from cdp_stream.cli.topology import load_compiled


@click.command()
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--from", "source", required=True, type=click.Path(path_type=Path), help="The folder of a backup.")
@click.option("--replace", is_flag=True, help="Put it in the place of state that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the backup's manifest.")
def restore(topology: Path, source: Path, replace: bool, as_json: bool) -> None:
    """Put a backup of TOPOLOGY's space into CDP_STREAM_DATA_DIR, for the next worker there to go on from.

    That worker takes from the changelog only what came after the backup. A backup of another space or of a later state
    format is refused, and one that is damaged or too old; until every file is checked and copied, nothing that is there
    is touched. No backup is ever needed: on an empty data folder a worker restores all of it from the changelog.

    \b
    Exit codes: 0 restored; 1 refused, nothing changed; 2 there is state already and no --replace.

    \b
    Examples:
      cdp-stream restore topologies/ecommerce --from /backups/ecommerce-monday
      cdp-stream restore topologies/ecommerce --from /backups/ecommerce-monday --replace
    """
    from cdp_stream.cli.copying import copying
    from cdp_stream.stream.kafka_log import wall_clock_ms
    from cdp_stream.stream.owner import state_folder
    from cdp_stream.stream.put_back import put_back
    from cdp_stream.stream.settings import Settings
    from cdp_stream.stream.topics import TopicNames

    compiled = load_compiled(topology)
    settings = Settings.from_environ(os.environ)
    names = TopicNames.of(compiled.topology, settings)
    state = state_folder(settings, names)
    with copying("restoring") as begin:
        manifest = put_back(source, state, names, wall_clock_ms(), begin, replace=replace)
    if as_json:
        click.echo(msgspec.json.encode(manifest))
    else:
        click.echo(f"{state}: {len(manifest.copies)} partitions as of {manifest.taken}; start the worker")
