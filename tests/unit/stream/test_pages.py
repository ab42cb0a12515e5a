"""The pages of a worker: metrics as Prometheus wants them, health, readiness; over HTTP, as a supervisor asks."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from cdp_stream.errors import CdpStreamError
from cdp_stream.stream.pages import LATE_AFTER_S, Pages, Pulse, serve


class Partitions:
    assigned = True

    def __init__(self) -> None:
        self.now: dict[int, str] = {0: "ready", 3: "ready"}

    def phases(self) -> dict[int, str]:
        return self.now


class Worker:
    def __init__(self) -> None:
        self.seconds = 100.0
        self.owners = Partitions()
        registry = CollectorRegistry()
        Counter("eggs", "how many", registry=registry).inc(3)
        pulse = Pulse(lambda: self.seconds)
        self.server = serve(Pages(registry, "profiles", self.owners, pulse), 0)

    def get(self, path: str) -> tuple[int, str, str]:
        url = f"http://127.0.0.1:{self.server.server_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.server.shutdown()
    worker.server.server_close()


def test_metrics_are_in_the_text_format(worker: Worker) -> None:
    code, kind, body = worker.get("/metrics")
    assert (200, True) == (code, kind.startswith("text/plain; version="))
    assert "eggs_total 3.0" in body.splitlines()


def test_a_loop_that_turns_is_healthy_and_one_that_hangs_is_not(worker: Worker) -> None:
    assert (200, "application/json") == worker.get("/healthz")[:2]
    worker.seconds += LATE_AFTER_S
    code, _, body = worker.get("/healthz")
    assert (503, False, LATE_AFTER_S) == (
        code,
        *[json.loads(body)[key] for key in ("healthy", "loop_turned_seconds_ago")],
    )
    assert 503 == worker.get("/readyz")[0]


def test_ready_is_who_has_every_partition_caught_up(worker: Worker) -> None:
    assert {
        "ready": True,
        "stage": "profiles",
        "assigned": True,
        "partitions": {"0": "ready", "3": "ready"},
    } == json.loads(worker.get("/readyz")[2])
    worker.owners.now[3] = "restoring"
    code, _, body = worker.get("/readyz")
    assert (503, {"0": "ready", "3": "restoring"}) == (code, json.loads(body)["partitions"])


def test_a_stand_by_without_partitions_is_ready_once_the_group_has_said_so(worker: Worker) -> None:
    worker.owners.now = {}
    assert 200 == worker.get("/readyz")[0]
    worker.owners.assigned = False
    assert 503 == worker.get("/readyz")[0]


def test_other_paths_name_the_pages(worker: Worker) -> None:
    assert (404, "here are /metrics, /healthz and /readyz\n") == worker.get("/")[::2]


def test_a_port_that_is_taken_is_named_with_the_remedy(worker: Worker) -> None:
    pages = Pages(CollectorRegistry(), "profiles", worker.owners, Pulse())
    with pytest.raises(CdpStreamError, match=r"port \d+ for .* cannot be had .* CDP_STREAM_METRICS_PORT"):
        serve(pages, worker.server.server_port)
