"""`cdp-stream kafka up|down`: a local Apache Kafka for trying things out."""

from __future__ import annotations

from pathlib import Path

import click

from cdp_stream.errors import CdpStreamError
from cdp_stream.stream.broker import kafka_jars, start_kafka, stop_process

_FOLDER = Path(".cdp-stream/kafka")


@click.group()
def kafka() -> None:
    """Start and stop a local Apache Kafka (one node, from its jars; needs Java 17 and Maven).

    \b
    Example:
      cdp-stream kafka up
      export CDP_STREAM_KAFKA=localhost:9092
      cdp-stream kafka down
    """


@kafka.command()
@click.option("--port", type=click.IntRange(1, 65_535), default=9092, show_default=True, help="Port for clients.")
def up(port: int) -> None:
    """Start it in the background; its data is kept in .cdp-stream/kafka until `down --wipe`."""
    pid_file = _FOLDER / "pid"
    if pid_file.exists():
        raise CdpStreamError(f"{pid_file}: a broker was started already; stop it with `cdp-stream kafka down`")
    libs = kafka_jars()
    _FOLDER.mkdir(parents=True, exist_ok=True)
    process, bootstrap = start_kafka(libs, _FOLDER.resolve(), port)
    pid_file.write_text(str(process.pid), encoding="utf-8")
    click.echo("Kafka is up; tell the other commands with the variable below.", err=True)
    click.echo(f"CDP_STREAM_KAFKA={bootstrap}")


@kafka.command()
@click.option("--wipe", is_flag=True, help="Also remove its data.")
def down(wipe: bool) -> None:
    """Stop it."""
    pid_file = _FOLDER / "pid"
    if not pid_file.exists():
        raise CdpStreamError("no broker was started from this folder")
    stop_process(int(pid_file.read_text(encoding="utf-8")))
    pid_file.unlink()
    if wipe:
        import shutil

        shutil.rmtree(_FOLDER)
    click.echo("Kafka is down", err=True)
