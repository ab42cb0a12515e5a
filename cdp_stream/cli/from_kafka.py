"""`cdp-stream replay --from-kafka`: a running space recomputed from its identity log and sources."""

from __future__ import annotations

import asyncio
import os
import sys

import click
import orjson

from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.digest import OutputsDigest
from cdp_stream.stages.records import OutputRecord
from cdp_stream.stream.recompute import entries_of_space, running_digest
from cdp_stream.stream.settings import Settings
from cdp_stream.testing.local import LocalSpace


async def recompute(settings: Settings, topology: CompiledTopology) -> tuple[str, dict[str, int]]:
    """The digest of a run of this space without workers, and how many records each output topic should hold."""
    digest = OutputsDigest()

    def take(record: OutputRecord) -> None:
        digest.add(record.topic, record.key, record.value)

    space = LocalSpace(topology.topology.partitions, take)
    async for offset, append_time, entry, records in entries_of_space(settings, topology):
        space.take(offset, append_time, entry, records)
    return digest.total(space.all_profiles()), digest.counts


def replay_from_kafka(topology: CompiledTopology, *, compare: bool, as_json: bool) -> None:
    """Print the recomputed digest; with `compare`, also that of the running space, and exit 1 if they differ."""
    settings = Settings.from_environ(os.environ)
    digest, counts = asyncio.run(recompute(settings, topology))
    result: dict[str, object] = {"outputs": dict(sorted(counts.items()))}
    if compare:
        running, running_counts = asyncio.run(running_digest(settings, topology))
        result["running_outputs"] = dict(sorted(running_counts.items()))
        result["running_digest"] = running
    result["digest"] = digest
    if as_json:
        click.echo(orjson.dumps(result))
    else:
        for name, value in result.items():
            if name != "digest":
                shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
                click.echo(f"{name.replace('_', ' ')}: {shown}")
        click.echo(f"digest: {digest}")
    if compare and result["running_digest"] != digest:
        click.echo("the running space differs from its recomputation", err=True)
        sys.exit(1)
