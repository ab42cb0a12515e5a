"""A real broker for the wire tests, found or started once; and the last lines of a run, which say what ran on what."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from hypothesis import HealthCheck, settings

from cdp_stream.errors import BrokerUnavailable
from cdp_stream.stream.broker import Broker, find_broker
from cdp_stream.stream.settings import Settings

settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci",
    max_examples=25,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("long", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", max_examples=10_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

_said: dict[str, str] = {}


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """A real Apache Kafka. Where none can be had the test is skipped aloud; with CI set, or one named, it fails."""
    try:
        broker = find_broker()
    except BrokerUnavailable as error:
        _said["broker"] = f"none ({error})"
        for name in ("CI", "CDP_STREAM_KAFKA"):
            if os.environ.get(name):
                pytest.fail(f"no broker, and {name} is set: {error}")
        pytest.skip(f"no broker: {error}")
    _said["broker"] = f"{broker.how} at {broker.bootstrap}"
    with broker:
        yield broker


@pytest.fixture
def topic_prefix(kafka: Broker) -> Iterator[str]:
    """A prefix of this test's own; topics that begin with it are removed afterwards."""
    prefix = f"test-{secrets.token_hex(4)}."
    yield prefix
    settings_here = Settings.from_environ({**os.environ, "CDP_STREAM_KAFKA": kafka.bootstrap})
    asyncio.run(_remove(settings_here.aiokafka_options(), prefix))


async def _remove(options: dict[str, Any], prefix: str) -> None:
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    try:
        ours = [topic for topic in await admin.list_topics() if topic.startswith(prefix)]
        if ours:
            await admin.delete_topics(ours)
    finally:
        await admin.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last lines of a run: which broker ran, and what was skipped and why."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.collectonly:
        return
    reporter.write_line(f"broker: {_said.get('broker', 'none; the tests that ran need none')}")
    skipped = Counter(_reason(report) for report in reporter.stats.get("skipped", []))
    for reason, count in sorted(skipped.items()):
        reporter.write_line(f"skipped: {count} {'test' if count == 1 else 'tests'}: {reason}")
    if not skipped:
        reporter.write_line("skipped: nothing")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    said = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return said.removeprefix("Skipped: ")
