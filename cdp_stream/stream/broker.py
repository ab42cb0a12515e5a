"""Find a broker, or start one: CDP_STREAM_KAFKA, a Docker engine, Apache Kafka's jars through Maven and Java."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from aiokafka.admin import AIOKafkaAdminClient

from cdp_stream.errors import BrokerUnavailable

KAFKA_VERSION: Final = "4.3.1"
_IMAGE: Final = "apache/kafka:4.1.1"
_START_WITHIN_S: Final = 60.0
_STOP_WITHIN_S: Final = 15.0
_DOWNLOAD_WITHIN_S: Final = 600
_JAVA_OPTIONS: Final = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_POM: Final = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>cdp-stream</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{version}</version></dependency>
  </dependencies>
</project>
"""


class Broker:
    """A broker to use, and how to end it. A context manager: leaving it stops what was started."""

    def __init__(self, bootstrap: str, how: str, stop: Callable[[], None]) -> None:
        self.bootstrap = bootstrap
        self.how = how
        self._stop = stop

    def stop(self) -> None:
        """Stop the broker if it was started here; a found one is left alone."""
        stop, self._stop = self._stop, lambda: None
        stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def find_broker(environ: Mapping[str, str] = os.environ) -> Broker:
    """The first broker that can be had. Raises BrokerUnavailable that says why each way was closed."""
    given = environ.get("CDP_STREAM_KAFKA")
    if given:
        if not _answers(given):
            raise BrokerUnavailable(f"CDP_STREAM_KAFKA={given}: no broker answers there")
        return Broker(given, "the one of CDP_STREAM_KAFKA", lambda: None)
    reasons = []
    for start in (_docker_broker, _jar_broker):
        try:
            return start(environ)
        except BrokerUnavailable as error:
            reasons.append(str(error))
    raise BrokerUnavailable("; ".join(["CDP_STREAM_KAFKA is not set", *reasons]))


def _docker_broker(environ: Mapping[str, str]) -> Broker:
    """A Kafka container, through testcontainers."""
    try:
        from testcontainers.core.docker_client import DockerClient
    except ImportError:
        raise BrokerUnavailable("testcontainers is not installed") from None
    try:
        DockerClient().client.ping()
    except Exception:  # noqa: BLE001 - whatever the client says, there is no engine
        raise BrokerUnavailable("no Docker engine answers") from None
    image = environ.get("CDP_STREAM_KAFKA_IMAGE", _IMAGE)
    try:
        container: Any = _kafka_container()(image).with_kraft()
        container.start()
    except Exception as error:  # noqa: BLE001 - an engine without the image, or without the network to get it
        raise BrokerUnavailable(f"the image {image} could not be started ({type(error).__name__})") from None
    return Broker(container.get_bootstrap_server(), f"a container of {image}", container.stop)


def _kafka_container() -> Any:
    """The container class, from where this version of testcontainers keeps it."""
    try:
        from testcontainers.community.kafka import KafkaContainer
    except ImportError:
        from testcontainers.kafka import KafkaContainer
    return KafkaContainer


def _jar_broker(environ: Mapping[str, str]) -> Broker:
    libs = kafka_jars(environ)
    folder = Path(tempfile.mkdtemp(prefix="cdp-stream-kafka-"))
    try:
        process, bootstrap = start_kafka(libs, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise

    def stop() -> None:
        stop_process(process.pid, process)
        shutil.rmtree(folder, ignore_errors=True)

    return Broker(bootstrap, f"Apache Kafka {KAFKA_VERSION} from its jars", stop)


def kafka_jars(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of Apache Kafka's jars, fetched with Maven on first use. Raises BrokerUnavailable without Java or Maven."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise BrokerUnavailable(f"{tool} is not installed")
    root = Path(environ.get("CDP_STREAM_KAFKA_CACHE") or Path.home() / ".cache" / "cdp-stream")
    folder = root / f"kafka-{KAFKA_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        libs = folder / "libs"
        if (folder / "complete").exists():
            return libs
        sys.stderr.write(f"fetching Apache Kafka {KAFKA_VERSION} with Maven (54 MB, once) …\n")
        (folder / "pom.xml").write_text(_POM.format(version=KAFKA_VERSION), encoding="utf-8")
        command = [
            "mvn",
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={libs}",
        ]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=_DOWNLOAD_WITHIN_S, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise BrokerUnavailable("Maven did not fetch Kafka's jars in time") from None
        if done.returncode:
            lines = done.stdout.decode(errors="replace").strip().splitlines()
            raise BrokerUnavailable(f"Maven could not fetch Kafka's jars: {lines[0] if lines else done.returncode}")
        (folder / "complete").touch()
        return libs


def start_kafka(libs: Path, folder: Path, port: int | None = None) -> tuple[subprocess.Popen[bytes], str]:
    """A one-node Kafka with its data in `folder`; returns when it answers. A later start on the same folder goes on."""
    port = port or _free_port()
    settings = folder / "server.properties"
    settings.write_text(_properties(folder, port, _free_port()), encoding="utf-8")
    classpath = f"{libs}/*"
    if not (folder / "data" / "meta.properties").exists():
        tool = ["java", "-cp", classpath, "kafka.tools.StorageTool"]
        cluster = _run([*tool, "random-uuid"]).strip().splitlines()[-1]
        _run([*tool, "format", "-t", cluster, "-c", str(settings)])
    with (folder / "kafka.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            ["java", *_JAVA_OPTIONS, "-cp", classpath, "kafka.Kafka", str(settings)],  # noqa: S607
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    bootstrap = f"localhost:{port}"
    until = time.monotonic() + _START_WITHIN_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise BrokerUnavailable(f"Kafka ended at start; see {folder / 'kafka.log'}")
        if _answers(bootstrap):
            return process, bootstrap
        time.sleep(0.1)
    process.kill()
    raise BrokerUnavailable(f"Kafka did not answer within {_START_WITHIN_S:.0f} s; see {folder / 'kafka.log'}")


def stop_process(pid: int, process: subprocess.Popen[bytes] | None = None) -> None:
    """End a broker by its pid: asked first, killed if it does not listen."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        until = time.monotonic() + _STOP_WITHIN_S
        while time.monotonic() < until:
            if process is not None and process.poll() is not None:
                return
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.05)


def _properties(folder: Path, port: int, controller_port: int) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@localhost:{controller_port}",
        "listeners": f"PLAINTEXT://localhost:{port},CONTROLLER://localhost:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://localhost:{port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": folder / "data",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        "auto.create.topics.enable": "false",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)  # noqa: S603
    if done.returncode:
        raise BrokerUnavailable(f"{command[3]} failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout.decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(bootstrap: str) -> bool:
    return asyncio.run(_asks(bootstrap))


async def _asks(bootstrap: str) -> bool:
    host, _, port = bootstrap.split(",", maxsplit=1)[0].rpartition(":")
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 2)
        writer.close()
        await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return False
    if os.environ.get("CDP_STREAM_SECURITY_PROTOCOL", "PLAINTEXT") != "PLAINTEXT":
        return True
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=2_000)
    try:
        await asyncio.wait_for(admin.start(), 3)
        await asyncio.wait_for(admin.list_topics(), 3)
    except Exception:  # noqa: BLE001 - not up yet, whatever it says
        return False
    finally:
        await admin.close()
    return True
