"""Brokers that we start: they answer, keep their data, end with whoever wanted them, and speak TLS and SASL."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from space import Space

from cdp_stream.errors import BrokerUnavailable
from cdp_stream.stream.broker import _IMAGE, Broker, _in_container, _require_engine
from cdp_stream.stream.local_kafka import answers, free_port, is_running, kafka_jars, start_kafka, stop_kafka, stop_pid
from cdp_stream.stream.settings import Settings
from cdp_stream.testing.people import People

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]

TOPOLOGY = {"space": "secured", "partitions": 2, "sources": [{"name": "web", "topic": "events"}]}


@pytest.fixture(scope="module")
def libs() -> Path:
    try:
        return kafka_jars()
    except BrokerUnavailable as error:
        pytest.skip(f"no Kafka from its jars: {error}")


def until(condition: Callable[[], bool], within_s: float = 30) -> bool:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


async def _create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()


async def _topics(bootstrap: str) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return await admin.list_topics()
    finally:
        await admin.close()


def test_the_broker_of_the_tests_serves_topics_and_groups(kafka: Broker) -> None:
    assert answers({"bootstrap_servers": kafka.bootstrap}, groups=True)


def test_a_node_that_is_kept_goes_on_with_its_data(libs: Path, tmp_path: Path) -> None:
    first, bootstrap = start_kafka(libs, tmp_path)
    try:
        assert is_running(tmp_path)
        asyncio.run(_create(bootstrap, "kept"))
        stop_pid(first.pid, tmp_path)
        assert not is_running(tmp_path)
    finally:
        stop_kafka(first)
    second, bootstrap = start_kafka(libs, tmp_path)
    try:
        assert "kept" in asyncio.run(_topics(bootstrap))
    finally:
        stop_kafka(second)


@pytest.mark.parametrize("keep", ["nothing", "data"])
def test_a_node_ends_when_its_starter_is_killed(keep: str, libs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    script = (
        "import sys, time; from pathlib import Path; from cdp_stream.stream.local_kafka import start_kafka\n"
        f"print(start_kafka(Path({str(libs)!r}), Path({str(folder)!r}), keep={keep!r})[1], flush=True); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        bootstrap = starter.stdout.readline().decode().strip()
        assert answers({"bootstrap_servers": bootstrap})
        os.kill(starter.pid, signal.SIGKILL)
    assert until(lambda: not answers({"bootstrap_servers": bootstrap}))
    if keep == "nothing":
        assert until(lambda: not folder.exists())
    else:
        assert (folder / "data" / "meta.properties").exists()


def test_a_container_serves_topics_and_groups() -> None:
    image = os.environ.get("CDP_STREAM_KAFKA_IMAGE") or _IMAGE
    try:
        _require_engine()
        _require_image(image)
        broker = _in_container(os.environ)
    except BrokerUnavailable as error:
        pytest.skip(f"no Kafka in a container: {error}")
    with broker:
        assert answers({"bootstrap_servers": broker.bootstrap}, groups=True)
    assert until(lambda: not answers({"bootstrap_servers": broker.bootstrap}), 10)


def _require_image(image: str) -> None:
    """Fetching one would be a download of half a gigabyte in a test."""
    import docker

    client = docker.from_env()
    try:
        client.images.get(image)
    except docker.errors.DockerException:
        raise BrokerUnavailable(f"the image {image} is not here") from None
    finally:
        client.close()


@pytest.fixture(scope="module")
def secured(libs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A node with a plain listener for the test's own clients and one with TLS and SASL: (plain, settings for it)."""
    folder = tmp_path_factory.mktemp("secured") / "node"
    folder.mkdir()
    plain, secure, controller = (free_port() for _ in range(3))
    settings = {
        "listeners": f"PLAINTEXT://localhost:{plain},SECURE://localhost:{secure},CONTROLLER://localhost:{controller}",
        "advertised.listeners": f"PLAINTEXT://localhost:{plain},SECURE://localhost:{secure}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
        "controller.quorum.voters": f"1@localhost:{controller}",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": (
            'org.apache.kafka.common.security.plain.PlainLoginModule required user_ann="hush-hush";'
        ),
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(_certificate(folder)),
        "ssl.keystore.password": "not-a-secret",
    }
    process, _ = start_kafka(libs, folder, plain, keep="nothing", settings=settings)
    yield (
        f"localhost:{plain}",
        {
            "CDP_STREAM_KAFKA": f"localhost:{secure}",
            "CDP_STREAM_SECURITY_PROTOCOL": "SASL_SSL",
            "CDP_STREAM_SSL_CAFILE": str(folder / "ca.pem"),
            "CDP_STREAM_SASL_USERNAME": "ann",
            "CDP_STREAM_SASL_PASSWORD": "hush-hush",
        },
    )
    stop_kafka(process)


def _certificate(folder: Path) -> Path:
    """A key with a certificate of its own making, and that certificate as ca.pem; keytool comes with Java."""
    store = folder / "node.p12"
    home = os.environ.get("JAVA_HOME")
    keytool = str(Path(home) / "bin" / "keytool") if home else "keytool"
    named = ["-alias", "node", "-keystore", str(store), "-storepass", "not-a-secret"]
    extensions = ["san=dns:localhost,ip:127.0.0.1", "bc:critical=ca:true", "ku:critical=digitalSignature,keyCertSign"]
    make = [keytool, "-genkeypair", *named, "-storetype", "PKCS12", "-keyalg", "RSA", "-dname", "CN=localhost"]
    subprocess.run([*make, *(part for each in extensions for part in ("-ext", each))], check=True, capture_output=True)
    export = [keytool, "-exportcert", *named, "-rfc", "-file", str(folder / "ca.pem")]
    subprocess.run(export, check=True, capture_output=True)
    return store


def test_the_whole_walk_over_tls_and_sasl(secured: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    plain, settings = secured
    assert answers(Settings.from_environ(settings).aiokafka_options())
    space = Space(plain, "", tmp_path, TOPOLOGY)
    space.create_sources()
    space.produce(list(People(3, 50).lines(500)))
    space.environ |= settings
    worker = space.start()
    try:
        space.wait_until_done(500)
        code, _ = space.stop(worker)
    finally:
        worker.kill()
    assert 0 == code, space.log.read_text()[-3000:]
    assert "hush-hush" not in space.log.read_text()


def test_a_wrong_password_opens_nothing(secured: tuple[str, dict[str, str]]) -> None:
    _, settings = secured
    wrong = Settings.from_environ({**settings, "CDP_STREAM_SASL_PASSWORD": "loud"})
    assert not answers(wrong.aiokafka_options())
