"""A real broker for the wire tests, found or started once; and the last lines of a run, which say what ran on what."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from hypothesis import HealthCheck, settings

from cdp_stream.errors import BrokerUnavailable
from cdp_stream.stream.broker import Broker, find_broker

settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci",
    max_examples=25,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("nightly", max_examples=10_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

_said: dict[str, str] = {}


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """A real Apache Kafka. Where none can be had the test is skipped aloud; with CI set that is a failure."""
    try:
        broker = find_broker()
    except BrokerUnavailable as error:
        _said["broker"] = f"none ({error})"
        if os.environ.get("CI"):
            pytest.fail(f"no broker, and CI is set: {error}")
        pytest.skip(f"no broker: {error}")
    _said["broker"] = f"{broker.how} at {broker.bootstrap}"
    with broker:
        yield broker


@pytest.fixture
def topic_prefix(kafka: Broker) -> Iterator[str]:
    """A prefix of this test's own; topics that begin with it are removed afterwards."""
    prefix = f"test-{secrets.token_hex(4)}."
    yield prefix
    asyncio.run(_remove(kafka.bootstrap, prefix))


async def _remove(bootstrap: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        ours = [topic for topic in await admin.list_topics() if topic.startswith(prefix)]
        if ours:
            await admin.delete_topics(ours)
    finally:
        await admin.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which broker ran, and what was skipped and why."""
    terminalreporter.write_line(f"broker: {_said.get('broker', 'not needed by the tests that ran')}")
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        terminalreporter.write_line("skipped: nothing")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.write_line(f"skipped: {report.nodeid}: {reason}")
