"""Two Apache Kafka nodes as plain processes: the second can be frozen, thawed, killed and started again."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Self

import psutil

from cdp_stream.stream.local_kafka import free_port, kafka_jars, new_cluster_id, start_kafka, stop_kafka

# Sessions of 2 s, so that a killed worker's partitions move soon; a frozen node loses its leadership after 4 s.
SETTINGS = {
    "group.min.session.timeout.ms": "1000",
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
    "replica.lag.time.max.ms": "4000",
    "log.retention.check.interval.ms": "1000",
    "log.initial.task.delay.ms": "1000",
    "delete.topic.enable": "true",
}


class Node:
    """One node of the cluster. `settings` are its own; its data stay in `folder` through kill and start."""

    def __init__(self, libs: Path, folder: Path, port: int, cluster: str, settings: dict[str, str]) -> None:
        self._libs = libs
        self.folder = folder
        self._port = port
        self._cluster = cluster
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._java: psutil.Process | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start, or start again on the same data; returns when it answers. It ends with this process, however that ends."""
        self._process, _ = start_kafka(
            self._libs, self.folder, self._port, keep="data", settings=self._settings, cluster=self._cluster
        )
        (self._java,) = psutil.Process(self._process.pid).children()

    @property
    def pid(self) -> int:
        """Of Kafka itself, not of the guard that ends it."""
        assert self._java is not None, "not started"
        return self._java.pid

    def freeze(self) -> None:
        """Nothing moves any more, but connections stay (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End at once (SIGKILL)."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.communicate()  # which closes the pipe to the guard too

    def stop(self) -> None:
        """End in an orderly way."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            stop_kafka(self._process)

    def _signal(self, number: signal.Signals) -> None:
        if self._java is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._java.send_signal(number)


class Cluster:
    """Node 1 is controller and broker, node 2 a broker. A context manager; leaving it ends both and removes their data."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        libs = kafka_jars()
        self._folder = folder
        ports = [free_port() for _ in range(3)]
        cluster = new_cluster_id(libs)
        common = {
            **SETTINGS,
            "controller.quorum.voters": f"1@localhost:{ports[2]}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            **(settings or {}),
        }
        first = {
            **common,
            "listeners": f"PLAINTEXT://localhost:{ports[0]},CONTROLLER://localhost:{ports[2]}",
        }
        second = {
            **common,
            "process.roles": "broker",
            "node.id": "2",
            "listeners": f"PLAINTEXT://localhost:{ports[1]}",
        }
        self.first = Node(libs, folder / "node-1", ports[0], cluster, first)
        self.second = Node(libs, folder / "node-2", ports[1], cluster, second)
        self.bootstrap = f"localhost:{ports[0]},localhost:{ports[1]}"

    def __enter__(self) -> Self:
        try:
            # The first one alone answers first, so that groups and their offsets live on the node that is never ended.
            self.first.start()
            self.second.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.second.stop()
        self.first.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
