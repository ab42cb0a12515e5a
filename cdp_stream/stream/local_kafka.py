"""Beside the walk: one Apache Kafka node on this machine, from its jars, which Maven fetches once."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from aiokafka.admin import AIOKafkaAdminClient

from cdp_stream.errors import BrokerUnavailable

_GUARD: Final = (sys.executable, "-m", "cdp_stream.stream.guard")
Keep = Literal["running", "data", "nothing"]
KAFKA_VERSION: Final = "4.3.1"
_JAVA_LEAST: Final = 17
_PORTS: Final = range(20_000, 32_000)
_START_WITHIN_S: Final = 60.0
_STOP_WITHIN_S: Final = 15.0
_DOWNLOAD_WITHIN_S: Final = 600
_PROCESSORS: Final = os.cpu_count() or 1
# For a broker that lives minutes: a small heap, and no time spent on compiling what runs once. Whoever wants to measure
# says otherwise by the variables that Kafka's own scripts read.
_JAVA_OPTIONS: Final = {
    "KAFKA_HEAP_OPTS": "-Xmx512m",
    "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
}
_LOG_OPTION: Final = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>cdp-stream</groupId>
  <artifactId>local-kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


def kafka_jars(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of Apache Kafka's jars, fetched with Maven on first use; safe for several processes at once.

    It lies in `~/.cache/cdp-stream`, or where CDP_STREAM_KAFKA_CACHE says. Raises BrokerUnavailable where Java is
    missing or too old, or the jars are neither there nor to be had.
    """
    _require_java(environ)
    root = Path(environ.get("CDP_STREAM_KAFKA_CACHE") or Path.home() / ".cache" / "cdp-stream").expanduser()
    folder = (root / f"kafka-{KAFKA_VERSION}").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            complete = folder / "complete"
            # What it was fetched for is written down, so that a newer list of jars is fetched anew.
            if not complete.exists() or complete.read_text(encoding="utf-8") != _POM:
                _fetch(folder)
                complete.write_text(_POM, encoding="utf-8")
    except OSError as error:
        raise BrokerUnavailable(f"the cache of Kafka's jars cannot be used: {error}") from None
    return folder / "libs"


def start_kafka(
    libs: Path,
    folder: Path,
    port: int | None = None,
    *,
    keep: Keep = "running",
    settings: Mapping[str, str] | None = None,
    cluster: str | None = None,
) -> tuple[subprocess.Popen[bytes], str]:
    """A node with its data in `folder`, which answers clients on `port` (default: a free one); (process, bootstrap).

    `keep`: what outlives this process. Where it is not the running node, the process is a guard (`guard.py`): closing
    its standard input, or the end of this process, ends the node, and with "nothing" removes the folder. `settings` are added to the
    node's own. `cluster`: the id of a cluster that the node is to be part of (`new_cluster_id`), default: one of its own.
    A later start on the same folder goes on with the data. Raises BrokerUnavailable.
    """
    if port is not None and not _is_free(port):
        raise BrokerUnavailable(f"port {port} is in use by another program")
    port = port or free_port()
    file = folder / "server.properties"
    file.write_text(_properties(folder, port, settings or {}), encoding="utf-8")
    java = _java(os.environ)
    if not (folder / "data" / "meta.properties").exists():
        tool = [java, "-cp", f"{libs}/*", "kafka.tools.StorageTool"]
        _run([*tool, "format", "-t", cluster or new_cluster_id(libs), "-c", str(file)])
    options = [option for name, usual in _JAVA_OPTIONS.items() for option in shlex.split(os.environ.get(name) or usual)]
    command = [java, *options, _LOG_OPTION, "-cp", f"{libs}/*", "kafka.Kafka", str(file)]
    if keep == "nothing":
        command = [*_GUARD, "--remove", str(folder), "--", *command]
    elif keep == "data":
        command = [*_GUARD, "--", *command]
    with (folder / "kafka.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL if keep == "running" else subprocess.PIPE,
            # Not a part of the terminal's foreground, so that Ctrl-C leaves its end to us.
            start_new_session=True,
        )
    try:
        _wait_until_up(process, port, folder / "kafka.log")
    except BaseException:
        stop_kafka(process)
        raise
    return process, f"localhost:{port}"


def new_cluster_id(libs: Path) -> str:
    """An id for a cluster of several nodes. Raises BrokerUnavailable."""
    tool = [_java(os.environ), "-cp", f"{libs}/*", "kafka.tools.StorageTool"]
    return _run([*tool, "random-uuid"]).strip().splitlines()[-1]


def stop_kafka(process: subprocess.Popen[bytes]) -> None:
    """End a node that was started here, and wait until it has ended: asked first, killed if it does not listen."""
    if process.stdin is not None:
        process.stdin.close()
    else:
        process.terminate()
    try:
        process.wait(2 * _STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def is_running(folder: Path) -> bool:
    """Whether a node works on this folder; told by the lock it holds, since a pid may be another program's by now."""
    lock = folder / "data" / ".lock"
    if not lock.exists():
        return False
    with lock.open("r+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def stop_pid(pid: int, folder: Path) -> None:
    """End the node of this folder, started by another process: asked first, killed if it does not listen."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        until = time.monotonic() + _STOP_WITHIN_S
        while time.monotonic() < until:
            if not is_running(folder):
                return
            time.sleep(0.05)


def answers(options: Mapping[str, Any], *, groups: bool = False) -> bool:
    """Whether a broker answers an admin client with these options (`Settings.aiokafka_options`).

    `groups`: and serves consumer groups, which a new broker does only some time after they are first asked for.
    """
    return asyncio.run(_answers(options, groups=groups))


async def _answers(options: Mapping[str, Any], *, groups: bool) -> bool:
    # Asked plainly first: the Kafka client logs an error for each port on which nobody listens.
    if not any([await _listens(address) for address in options["bootstrap_servers"].split(",")]):
        return False
    admin = AIOKafkaAdminClient(**options, request_timeout_ms=5_000)
    try:
        await asyncio.wait_for(admin.start(), 6)
        await asyncio.wait_for(admin.list_topics(), 6)
        if groups:
            await asyncio.wait_for(admin.find_coordinator("cdp-stream"), 6)
    except Exception:  # noqa: BLE001 - not up, or not for us, whatever it says
        return False
    finally:
        await admin.close()
    return True


async def _listens(address: str) -> bool:
    host, _, port = address.strip().rpartition(":")
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host.strip("[]"), int(port)), 2)
        writer.close()
        await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return False
    return True


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + _START_WITHIN_S
    options = {"bootstrap_servers": f"localhost:{port}"}
    while time.monotonic() < until:
        if process.poll() is not None:
            raise BrokerUnavailable(f"Kafka ended at its start; {_last_words(log)}")
        if answers(options, groups=True):
            return
        time.sleep(0.1)
    raise BrokerUnavailable(f"Kafka did not answer within {_START_WITHIN_S:.0f} s; {_last_words(log)}")


def _last_words(log: Path) -> str:
    """The end of its log as text, since the folder may be gone when the message is read."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return " / ".join(lines[-3:])[-400:] or "it said nothing"


def _fetch(folder: Path) -> None:
    if shutil.which("mvn") is None:
        raise BrokerUnavailable("Maven (mvn) is not installed")
    sys.stderr.write(f"fetching Apache Kafka {KAFKA_VERSION} with Maven (54 MB, once) …\n")
    sys.stderr.flush()
    (folder / "pom.xml").write_text(_POM, encoding="utf-8")
    shutil.rmtree(folder / "libs", ignore_errors=True)
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder / 'libs'}"]
    try:
        done = subprocess.run(  # noqa: S603
            ["mvn", "-q", "-B", *goal],  # noqa: S607
            cwd=folder,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_DOWNLOAD_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BrokerUnavailable("Maven did not fetch Kafka's jars in time") from None
    if done.returncode:
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        reason = lines[0].removeprefix("[ERROR] ")[:300] if lines else f"exit code {done.returncode}"
        raise BrokerUnavailable(f"Maven could not fetch Kafka's jars: {reason}")


def _java(environ: Mapping[str, str]) -> str:
    home = environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else "java"


def _require_java(environ: Mapping[str, str]) -> None:
    java = _java(environ)
    if shutil.which(java) is None:
        raise BrokerUnavailable(f"Java ({java}) is not installed")
    done = subprocess.run([java, "-version"], capture_output=True, check=False, timeout=60)  # noqa: S603
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr.decode(errors="replace"))
    if found is None:
        raise BrokerUnavailable(f"Java ({java}) does not run")
    if int(found[1]) < _JAVA_LEAST:
        raise BrokerUnavailable(f"Java {found[1]} is too old for Kafka {KAFKA_VERSION}, which needs {_JAVA_LEAST}")


def _properties(folder: Path, port: int, settings: Mapping[str, str]) -> str:
    controller_port = free_port()
    own = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@localhost:{controller_port}",
        "listeners": f"PLAINTEXT://localhost:{port},CONTROLLER://localhost:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://localhost:{port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(folder / "data"),
        # One node: what is kept in several copies by default has one.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        # By default the first member of a group waits 3 s for others.
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
        # As many as there are processors: more of them wake one another, a tenth of what a broker does on two.
        "num.network.threads": str(max(1, _PROCESSORS // 2)),
        "num.io.threads": str(max(2, _PROCESSORS)),
    }
    return "".join(f"{name}={value}\n" for name, value in {**own, **settings}.items())


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)  # noqa: S603
    if done.returncode:
        raise BrokerUnavailable(f"{command[3]} failed: {done.stderr.decode(errors='replace').strip()[:300]}")
    return done.stdout.decode()


def free_port(count: int = 1) -> int:
    """The first of `count` neighbouring ports that nobody listens on.

    Below the range that systems give to outgoing connections: a client that looks for a broker which is away could be
    given the broker's own port, and would then keep it from coming back.
    """
    while True:
        port = _PORTS.start + secrets.randbelow(len(_PORTS) - count)
        if all(_is_free(port + number) for number in range(count)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("localhost", port))
        except OSError:
            return False
    return True
