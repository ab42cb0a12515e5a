"""`cdp-stream inspect`: one profile, whole; and its part of the identity graph as a picture or data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import orjson

from cdp_stream.cli.graph import write_graph
from cdp_stream.errors import CdpStreamError, UsageError
from cdp_stream.testing.local import LocalSpace


@click.command("inspect")
@click.argument("profile")
@click.option("--state", type=click.Path(path_type=Path), help="State folder of a `replay --state` or of a worker.")
@click.option("--topology", type=click.Path(path_type=Path), help="Look in this topology's space on Kafka instead.")
@click.option("--graph", type=click.Path(path_type=Path), help="Write its part of the graph: .svg, .graphml or .json.")
@click.option("--json", "as_json", is_flag=True, help="Print the profile as JSON.")
def inspect_profile(profile: str, state: Path | None, topology: Path | None, graph: Path | None, as_json: bool) -> None:
    """Show PROFILE: `type:value` of any external id, or a profile id, also an absorbed one's.

    \b
    Examples:
      cdp-stream inspect user_id:u-1 --state /tmp/shop
      cdp-stream inspect email:ana@example.org --topology topologies/ecommerce --graph ana.svg
    """
    if (state is None) == (topology is None):
        raise UsageError("say where to look: --state FOLDER or --topology FOLDER (one of them)")
    found = _from_state(profile, state) if state is not None else _from_kafka(profile, topology)
    if found is None:
        raise CdpStreamError(f"{profile}: no such profile")
    if graph is not None:
        write_graph(found, graph)
        click.echo(f"wrote {graph}", err=True)
    if as_json:
        click.echo(orjson.dumps(found))
        return
    _show(found)


def _from_state(profile: str, state: Path) -> dict[str, Any] | None:
    partitions = sum(1 for folder in state.glob("profiles-*") if folder.is_dir())
    if not partitions:
        raise UsageError(f"{state}: no state here; write one with `cdp-stream replay … --state {state}`")
    space = LocalSpace(partitions, lambda _: None, state, read_only=True)
    try:
        return space.find(profile)
    finally:
        space.close()


def _from_kafka(profile: str, topology: Path | None) -> dict[str, Any] | None:
    import asyncio

    from cdp_stream.cli.topology import load_compiled
    from cdp_stream.stream.recompute import running_profiles
    from cdp_stream.stream.settings import Settings
    from cdp_stream.stream.topics import TopicNames

    assert topology is not None
    settings = Settings.from_environ(os.environ)
    names = TopicNames.of(load_compiled(topology).topology, settings)
    type_, _, value = profile.partition(":")
    for found in asyncio.run(running_profiles(settings, names)):
        if profile == found["id"] or profile in found["absorbed"]:
            return found
        if any(known["type"] == type_ and known["id"] == value for known in found["external_ids"]):
            return found
    return None


def _show(found: dict[str, Any]) -> None:
    click.echo(f"{found['id']}  ({found['collection']}, created {found['created']})")
    sections = {
        "external ids": [
            f"{known['type']}: {known['id']}  since {known['first_seen']}" for known in found["external_ids"]
        ],
        "traits": [f"{key}: {orjson.dumps(value).decode()}" for key, value in found["traits"].items()],
        "audiences": found["audiences"],
        "absorbed": found["absorbed"],
        "links": found["links"],
        "events": [f"{len(found['message_ids'])} message ids kept"],
    }
    for name, lines in sections.items():
        if lines:
            click.echo(f"{name}:")
            for line in lines:
                click.echo(f"  {line}")
