"""Beside the walk: find a broker or start one. CDP_STREAM_KAFKA, a Docker engine, Kafka's jars through Maven and Java."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from cdp_stream.errors import BrokerUnavailable
from cdp_stream.stream.local_kafka import KAFKA_VERSION, answers, kafka_jars, start_kafka, stop_kafka
from cdp_stream.stream.settings import Settings

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

_IMAGE: Final = "apache/kafka:4.1.1"
_UP_WITHIN_S: Final = 60.0
_CLIENT_PORT: Final = 9092
_STARTER: Final = "/tmp/cdp-stream-start.sh"  # noqa: S108 - inside the container
_CONTAINER_SETTINGS: Final = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_LISTENERS": f"CLIENTS://:{_CLIENT_PORT},INSIDE://:19092,CONTROLLER://:9093",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CLIENTS:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "4",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
}


class Broker:
    """A broker to use, and how to end it. A context manager: leaving it stops what was started."""

    def __init__(self, bootstrap: str, how: str, stop: Callable[[], None]) -> None:
        self.bootstrap = bootstrap
        self.how = how
        self._stop = stop

    def stop(self) -> None:
        """Stop the broker if it was started here; a found one is left alone. Again: nothing."""
        stop, self._stop = self._stop, lambda: None
        stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def find_broker(environ: Mapping[str, str] = os.environ) -> Broker:
    """The first broker that can be had. Raises BrokerUnavailable that says why each way was closed, or SettingsError.

    The broker that CDP_STREAM_KAFKA names is asked for by name: if it does not answer, no other takes its place.
    """
    given = environ.get("CDP_STREAM_KAFKA")
    if given:
        if not answers(Settings.from_environ(environ).aiokafka_options()):
            raise BrokerUnavailable(f"CDP_STREAM_KAFKA={given}: no broker answers there")
        return Broker(given, "the one of CDP_STREAM_KAFKA", lambda: None)
    reasons = ["CDP_STREAM_KAFKA is not set"]
    for start in (_in_container, _from_jars):
        try:
            return start(environ)
        except BrokerUnavailable as error:
            reasons.append(str(error))
    raise BrokerUnavailable("; ".join(reasons))


def _from_jars(environ: Mapping[str, str]) -> Broker:
    libs = kafka_jars(environ)
    folder = Path(tempfile.mkdtemp(prefix="cdp-stream-kafka-"))
    try:
        process, bootstrap = start_kafka(libs, folder, keep="nothing")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Broker(bootstrap, f"Apache Kafka {KAFKA_VERSION} from its jars", lambda: stop_kafka(process))


def _in_container(environ: Mapping[str, str]) -> Broker:
    """A container of an image that is laid out as apache/kafka is: its settings are variables KAFKA_…"""
    try:
        from testcontainers.core.container import DockerContainer
    except ImportError:
        raise BrokerUnavailable("testcontainers is not installed") from None
    _require_engine()
    image = environ.get("CDP_STREAM_KAFKA_IMAGE") or _IMAGE
    sys.stderr.write(f"starting a container of {image} (fetched on first use) …\n")
    sys.stderr.flush()
    container = DockerContainer(image).with_exposed_ports(_CLIENT_PORT).with_envs(**_CONTAINER_SETTINGS)
    # Clients are told the port they can reach, and that is known only when the container runs.
    container.with_command(["sh", "-c", f"while [ ! -s {_STARTER} ]; do sleep 0.1; done; . {_STARTER}"])
    try:
        container.start()
        bootstrap = _advertise(container)
        _wait_until_up(container, bootstrap)
    except BaseException as error:
        _remove(container)
        if not isinstance(error, Exception):
            raise
        words = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise BrokerUnavailable(f"no container of {image} could be started: {words}") from None
    return Broker(bootstrap, f"a container of {image}", lambda: _remove(container))


def _require_engine() -> None:
    from testcontainers.core.docker_client import DockerClient, get_docker_host

    host = get_docker_host() or "unix:///var/run/docker.sock"
    if host.startswith("unix://"):
        # Asked plainly first: the Docker client leaves its socket open when nobody answers.
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(host.removeprefix("unix://"))
            except OSError:
                raise BrokerUnavailable("no Docker engine answers") from None
    try:
        client = DockerClient().client
        try:
            client.ping()
        finally:
            client.close()
    except Exception:  # noqa: BLE001 - whatever the client says, there is no engine for us
        raise BrokerUnavailable("no Docker engine answers") from None


def _advertise(container: DockerContainer) -> str:
    """Let the waiting container start Kafka; returns where clients reach it."""
    bootstrap = f"{container.get_container_host_ip()}:{container.get_exposed_port(_CLIENT_PORT)}"
    script = f"export KAFKA_ADVERTISED_LISTENERS=CLIENTS://{bootstrap},INSIDE://localhost:19092\nexec /etc/kafka/docker/run\n"
    container.copy_into_container(script.encode(), _STARTER)
    return bootstrap


def _wait_until_up(container: DockerContainer, bootstrap: str) -> None:
    until = time.monotonic() + _UP_WITHIN_S
    while not answers({"bootstrap_servers": bootstrap}, groups=True):
        container.reload()
        if time.monotonic() > until or container.status == "exited":
            output = b" ".join(container.get_logs()).decode(errors="replace").split("\n")
            raise BrokerUnavailable(f"Kafka did not answer; {' / '.join(output[-4:]).strip() or 'it said nothing'}")
        time.sleep(0.1)


def _remove(container: DockerContainer) -> None:
    from testcontainers.core.container import Reaper

    # An engine that has gone away has taken the container with it.
    with contextlib.suppress(Exception):
        container.stop()
    with contextlib.suppress(Exception):
        Reaper.delete_instance()
