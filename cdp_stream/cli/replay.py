"""`cdp-stream replay`: the whole walk over a file, standard input, or a running space's own log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cdp_stream.cli.explain import explain_line
from cdp_stream.cli.topology import load_compiled
from cdp_stream.errors import UsageError
from cdp_stream.testing.replay import OutputFiles, Replay, records_of


@click.command()
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--events", "events", help="JSONL file of events, or - for standard input; default: the topology's own.")
@click.option("--out", type=click.Path(path_type=Path), help="Write every output topic and the profiles as JSONL here.")
@click.option(
    "--state", type=click.Path(path_type=Path), help="Keep the state in this folder (RocksDB), for `inspect`."
)
@click.option("--partitions", type=click.IntRange(1, 1024), help="Partitions of the profile stage.")
@click.option("--step-size", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Events a step.")
@click.option("--explain", is_flag=True, help="Print each decision with its reason.")
@click.option("--from-kafka", is_flag=True, help="Recompute a running space from its identity log and sources.")
@click.option("--compare", is_flag=True, help="With --from-kafka: also digest the running space's topics and state.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def replay(  # noqa: PLR0913, PLR0917 - one parameter an option
    topology: Path,
    events: str | None,
    out: Path | None,
    state: Path | None,
    partitions: int | None,
    step_size: int,
    explain: bool,
    from_kafka: bool,
    compare: bool,
    as_json: bool,
) -> None:
    """Run TOPOLOGY's whole walk in this process, without a broker.

    The same events and the same topology give the same digest, whatever the partitions, the step size and the store.

    \b
    Examples:
      cdp-stream replay topologies/ecommerce
      cdp-stream replay topologies/ecommerce --explain --events my-events.jsonl
      zcat events.jsonl.gz | cdp-stream replay topologies/ecommerce --events - --out result/
      cdp-stream replay topologies/ecommerce --state /tmp/shop && cdp-stream inspect user_id:u-1 --state /tmp/shop
      CDP_STREAM_KAFKA=localhost:9092 cdp-stream replay topologies/ecommerce --from-kafka
    """
    if from_kafka and events is not None:
        raise UsageError("--from-kafka takes the events from the space's sources; give no --events with it")
    if compare and not from_kafka:
        raise UsageError("--compare needs --from-kafka: only a running space has topics to compare with")
    compiled = load_compiled(topology)
    if from_kafka:
        from cdp_stream.cli.from_kafka import replay_from_kafka

        replay_from_kafka(
            compiled,
            out=out,
            state=state,
            partitions=partitions,
            explain=explain,
            compare=compare,
            as_json=as_json,
        )
        return
    names = [destination.name for destination in compiled.topology.destinations]
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(OutputFiles(out, names)) if out is not None else None
        run = Replay(
            compiled,
            partitions=partitions or compiled.topology.partitions,
            step_size=step_size,
            state=state or "memory",
            sink=files.write if files is not None else None,
            observe=(lambda *seen: click.echo(explain_line(*seen))) if explain else None,
        )
        stack.callback(run.space.close)
        lines, total = _lines(topology, events, stack)
        source = compiled.topology.sources[0]
        count = 0
        with _progress(total, quiet=explain or as_json) as advance:
            for taken in run.run(records_of(lines, identity=source.identity)):
                count += taken
                advance(taken)
        if files is not None:
            files.write_profiles(run.space.all_profiles())
        _summary(run, count, time.perf_counter() - began, as_json=as_json)


def _lines(topology: Path, events: str | None, stack: contextlib.ExitStack) -> tuple[Iterable[bytes], int | None]:
    """The events' lines, and how many there are, where that is known."""
    if events == "-":
        return sys.stdin.buffer, None
    folder = topology if topology.is_dir() else topology.parent
    path = Path(events) if events is not None else folder / "events.jsonl"
    try:
        with path.open("rb") as counted:
            total = sum(1 for _ in counted)
        file: BinaryIO = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; name a file with --events FILE") from None
    return file, total


@contextlib.contextmanager
def _progress(total: int | None, *, quiet: bool) -> Iterator[Any]:
    """A progress bar on stderr, when that is a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("replaying", total=total)
        yield lambda taken: progress.advance(task, taken)


def figures(tally: Counter[tuple[str, ...]]) -> dict[str, Any]:
    """The figures of a run from its tally, for summaries."""
    of = {"merges": "profiles_merged", "demotions": "identifier_demoted", "profiles_created": "profile_created"}
    decisions: Counter[str] = Counter()
    for what, count in tally.items():
        if what[0] == "decision":
            decisions[what[1]] += count
    return {
        "events": sum(count for what, count in tally.items() if what[0] == "event"),
        "duplicates": sum(count for what, count in tally.items() if what[0] == "duplicate"),
        **{name: decisions[decision] for name, decision in of.items()},
        "dead_letters": {what[1]: count for what, count in sorted(tally.items()) if what[0] == "dead_letter"},
        "destination_messages": {what[1]: count for what, count in sorted(tally.items()) if what[0] == "destination"},
    }


def _summary(run: Replay, count: int, seconds: float, *, as_json: bool) -> None:
    profiles = list(run.space.all_profiles())
    sizes: Counter[str] = Counter(key for profile in profiles for key in profile["audiences"])
    digest = run.digest.total(profiles)
    result = {
        "records": count,
        **figures(run.space.tally),
        "profiles": sum(1 for profile in profiles if profile["collection"] == "users"),
        "accounts": sum(1 for profile in profiles if profile["collection"] == "accounts"),
        "audiences": dict(sorted(sizes.items())),
        "seconds": round(seconds, 3),
        "digest": digest,
    }
    if as_json:
        click.echo(orjson.dumps(result))
        return
    for name, value in result.items():
        if name != "digest":
            shown = ", ".join(f"{key} {number}" for key, number in value.items()) if isinstance(value, dict) else value
            click.echo(f"{name.replace('_', ' '):22} {shown if shown != '' else 'none'}")
    click.echo(f"digest: {digest}")
