"""`cdp-stream replay --from-kafka`: a running space recomputed from its identity log and sources."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import orjson

from cdp_stream.cli.explain import explain_line
from cdp_stream.errors import StateError
from cdp_stream.model.event import RawRecord
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.digest import OutputsDigest
from cdp_stream.stages.records import OutputRecord
from cdp_stream.stream.recompute import entries_of_space, running_digest
from cdp_stream.stream.settings import Settings
from cdp_stream.testing.local import LocalSpace
from cdp_stream.testing.replay import OutputFiles


async def recompute(
    settings: Settings,
    topology: CompiledTopology,
    *,
    partitions: int | None = None,
    state: str | Path = "memory",
    out: Path | None = None,
    observe: Callable[[str, RawRecord, Any], None] | None = None,
) -> tuple[str, dict[str, int]]:
    """The digest of a run of this space without workers, and how many records each output topic should hold.

    `out`: a folder for every output and the profiles. `observe`: called with each decision.
    """
    digest = OutputsDigest()
    files = None if out is None else OutputFiles(out, [found.name for found in topology.topology.destinations])

    def take(record: OutputRecord) -> None:
        digest.add(record.topic, record.key, record.value)
        if files is not None:
            files.write(record)

    space = LocalSpace(partitions or topology.topology.partitions, take, state, topic_prefix=settings.topic_prefix)
    try:
        if space.next_offset:
            raise StateError(f"{state}: holds the state of a replay already; name a new folder, or remove it")
        space.identity.observe = observe
        async for offset, append_time, entry, records in entries_of_space(settings, topology):
            space.take(offset, append_time, entry, records)
        if files is not None:
            files.write_profiles(space.all_profiles())
        return digest.total(space.all_profiles()), digest.counts
    finally:
        space.close()
        if files is not None:
            files.close()


def replay_from_kafka(  # noqa: PLR0913 - one parameter an option
    topology: CompiledTopology,
    *,
    out: Path | None,
    state: Path | None,
    partitions: int | None,
    explain: bool,
    compare: bool,
    as_json: bool,
) -> None:
    """Print the recomputed digest; with `compare`, also that of the running space, and exit 1 if they differ."""
    settings = Settings.from_environ(os.environ)
    observe = (lambda *seen: click.echo(explain_line(*seen))) if explain else None
    digest, counts = asyncio.run(
        recompute(settings, topology, partitions=partitions, state=state or "memory", out=out, observe=observe)
    )
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
