"""A real Prometheus, with the shipped configuration, scrapes a real worker; every query of the dashboard answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from space import Space

from cdp_stream.stream.broker import Broker
from cdp_stream.stream.local_kafka import free_port
from cdp_stream.testing.people import People

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
TOPOLOGY = {
    "space": "scraped",
    "partitions": 2,
    "sources": [{"name": "web", "topic": "events"}],
    "traits": [{"key": "orders", "definition": "event('Order Completed').count()", "destinations": ["crm"]}],
    "audiences": [{"key": "buyers", "definition": "trait('orders') >= 1", "destinations": ["crm"]}],
    "destinations": [{"name": "crm", "topic": "dest.crm"}],
}
# Nothing is wrong in a healthy run: no time limit is in the rules, so these may have nothing to show.
MAY_BE_EMPTY = ("cdp_violations_total", "cdp_state_limits_total", "cdp_webhook_", "cdp_standby_")
"""No violation may have happened, and no state have met its limit; the webhook connector is a process of its own, and nobody stands by."""


@pytest.fixture
def worker_port(kafka: Broker, topic_prefix: str, tmp_path: Path) -> Iterator[int]:
    space = Space(kafka.bootstrap, topic_prefix, tmp_path, TOPOLOGY)
    space.create_sources()
    port = free_port(2)
    space.environ["CDP_STREAM_METRICS_PORT"] = str(port)
    worker = space.start()
    space.produce(list(People(6, 100).lines(3_000)))
    try:
        space.wait_until_done(3_000)
        space.produce([b"broken", *People(8, 100).lines(500)])
        yield port
    finally:
        space.stop(worker)


def ask(port: int, query: str) -> list[Any]:
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(url, timeout=5) as answer:
        body = json.load(answer)
    assert body["status"] == "success", (query, body)
    return list(body["data"]["result"])


def test_every_query_of_the_dashboard_answers(worker_port: int, tmp_path: Path) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    shipped = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    shipped["global"]["scrape_interval"] = "1s"
    for number, target in enumerate(shipped["scrape_configs"][0]["static_configs"]):
        target["targets"] = [f"127.0.0.1:{worker_port + number}"]
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump(shipped))
    port = free_port(2)
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
               f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]  # fmt: skip
    prometheus = subprocess.Popen(command)
    panels = orjson.loads((ROOT / "deploy/grafana/dashboards/cdp-stream.json").read_bytes())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    try:
        until, silent = time.monotonic() + 60, queries
        while silent and time.monotonic() < until:
            time.sleep(1)
            try:
                silent = [q for q in queries if not any(name in q for name in MAY_BE_EMPTY) and not ask(port, q)]
            except urllib.error.URLError:
                continue
        assert [] == silent
    finally:
        prometheus.terminate()
        prometheus.wait(10)
