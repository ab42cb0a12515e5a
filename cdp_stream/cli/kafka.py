"""`cdp-stream kafka up|down`: a local Apache Kafka for trying things out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click

from cdp_stream.errors import CdpStreamError
from cdp_stream.stream.local_kafka import is_running, kafka_jars, start_kafka, stop_kafka, stop_pid

_FOLDER = Path(".cdp-stream/kafka")


@click.group()
def kafka() -> None:
    """Start and stop a local Apache Kafka (one node, from its jars; needs Java 17 and, the first time, Maven).

    \b
    Example:
      export $(cdp-stream kafka up)
      cdp-stream worker topologies/ecommerce
      cdp-stream kafka down
    """


@kafka.command()
@click.option("--port", type=click.IntRange(1, 65_535), default=9092, show_default=True, help="Port for clients.")
@click.option("--foreground", is_flag=True, help="Stay until Ctrl-C or the end of the terminal.")
def up(port: int, foreground: bool) -> None:
    """Start it; its data is kept in .cdp-stream/kafka until `down --wipe`.

    Prints the variable that tells the other commands where it is. It has a heap of 512 MB and compiles little, as fits a
    short life; KAFKA_HEAP_OPTS and KAFKA_JVM_PERFORMANCE_OPTS say otherwise, as they do to Kafka's own scripts.
    """
    folder = _FOLDER.resolve()
    if is_running(folder):
        raise CdpStreamError(f"{_FOLDER}: its Kafka is up already; stop it with `cdp-stream kafka down`")
    libs = kafka_jars()
    folder.mkdir(parents=True, exist_ok=True)
    process, bootstrap = start_kafka(libs, folder, port)
    (folder / "pid").write_text(str(process.pid), encoding="utf-8")
    click.echo(f"Kafka is up; it writes its log to {_FOLDER / 'kafka.log'}", err=True)
    click.echo(f"CDP_STREAM_KAFKA={bootstrap}")
    if foreground:
        _stay(process)


def _stay(process: subprocess.Popen[bytes]) -> None:
    try:
        code = process.wait()
    except KeyboardInterrupt:
        stop_kafka(process)
        click.echo("Kafka is down", err=True)
        return
    if code not in {0, 143}:  # 143: ended by `cdp-stream kafka down`
        raise CdpStreamError(f"Kafka ended with exit code {code}; see {_FOLDER / 'kafka.log'}")


@kafka.command()
@click.option("--wipe", is_flag=True, help="Also remove its data.")
def down(wipe: bool) -> None:
    """Stop it."""
    folder = _FOLDER.resolve()
    pid_file = folder / "pid"
    if is_running(folder):
        stop_pid(int(pid_file.read_text(encoding="utf-8")), folder)
        click.echo("Kafka is down", err=True)
    else:
        click.echo("no Kafka was up in this folder", err=True)
    pid_file.unlink(missing_ok=True)
    if wipe and folder.exists():
        import shutil

        shutil.rmtree(folder)
