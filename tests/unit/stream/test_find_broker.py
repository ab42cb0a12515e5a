"""Which broker is taken, and what is said where none can be had. Java and Maven are played by scripts."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cdp_stream.errors import BrokerUnavailable, SettingsError
from cdp_stream.stream.broker import find_broker
from cdp_stream.stream.local_kafka import is_running, kafka_jars, start_kafka

JAVA_17 = "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2"


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    monkeypatch.delenv("JAVA_HOME", raising=False)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is searched for programs before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def play(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def cache(tmp_path: Path) -> dict[str, str]:
    return {"CDP_STREAM_KAFKA_CACHE": str(tmp_path / "cache")}


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(BrokerUnavailable) as raised:
        find_broker(environ)
    return str(raised.value)


def test_the_reason_of_each_closed_way_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    expected = "CDP_STREAM_KAFKA is not set; no Docker engine answers; Java (java) is not installed"
    assert expected == refusal({})


def test_a_named_broker_that_does_not_answer_is_not_replaced_by_another(tools: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("localhost", 0))
        address = f"localhost:{silent.getsockname()[1]}"
        assert f"CDP_STREAM_KAFKA={address}: no broker answers there" == refusal({"CDP_STREAM_KAFKA": address})


def test_a_named_broker_is_reached_with_the_settings_so_bad_ones_are_told() -> None:
    with pytest.raises(SettingsError, match="is not host:port"):
        find_broker({"CDP_STREAM_KAFKA": "localhost"})


@pytest.mark.parametrize(
    ("java", "reason"),
    [
        ("echo 'java version \"1.8.0_381\"' >&2", "Java 8 is too old"),
        ("echo 'openjdk version \"11.0.2\" 2019-01-15' >&2", "Java 11 is too old"),
        ("echo 'Unable to locate a Java Runtime.' >&2; exit 1", "does not run"),
    ],
)
def test_a_java_that_kafka_cannot_run_on_is_told(tools: Path, tmp_path: Path, java: str, reason: str) -> None:
    play(tools, "java", java)
    assert reason in refusal(cache(tmp_path))


def test_the_java_of_java_home_comes_first(tools: Path, tmp_path: Path) -> None:
    play(tools, "java", JAVA_17)
    assert f"Java ({tmp_path}/jdk/bin/java) is not installed" in refusal(
        {**cache(tmp_path), "JAVA_HOME": f"{tmp_path}/jdk"}
    )


def test_what_maven_says_is_passed_on_and_nothing_is_taken_for_complete(tools: Path, tmp_path: Path) -> None:
    play(tools, "java", JAVA_17)
    play(tools, "mvn", "echo '[ERROR] Could not resolve dependencies: no route'; exit 1")
    for _ in range(2):
        assert "Maven could not fetch Kafka's jars: Could not resolve dependencies: no route" in refusal(
            cache(tmp_path)
        )


def test_two_who_need_the_jars_at_once_fetch_them_once(tools: Path, tmp_path: Path) -> None:
    play(tools, "java", JAVA_17)
    play(tools, "mvn", f"echo called >> {tmp_path}/calls; sleep 0.3; mkdir libs; touch libs/kafka.jar")
    with ThreadPoolExecutor() as pool:
        folders = {*pool.map(lambda _: kafka_jars(cache(tmp_path)), range(3))}
    assert (1, ["called"]) == (len(folders), (tmp_path / "calls").read_text().split())


def test_jars_in_the_cache_need_no_maven(tools: Path, tmp_path: Path) -> None:
    play(tools, "java", JAVA_17)
    play(tools, "mvn", "mkdir libs; touch libs/kafka.jar")
    libs = kafka_jars(cache(tmp_path))
    play(tools, "mvn", "exit 1")
    assert (libs, ["kafka.jar"]) == (kafka_jars(cache(tmp_path)), [jar.name for jar in libs.iterdir()])


def test_a_port_in_use_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BrokerUnavailable, match=f"port {port} is in use"):
            start_kafka(tmp_path / "libs", tmp_path / "node", port)


def test_a_folder_whose_lock_nobody_holds_has_no_node(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert not is_running(tmp_path)
    (tmp_path / "data" / ".lock").touch()
    assert not is_running(tmp_path)


@pytest.mark.parametrize(
    ("environ", "options"),
    [
        ({}, "-Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"),
        (
            {"KAFKA_HEAP_OPTS": "-Xms1g -Xmx1g", "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseG1GC"},
            "-Xms1g -Xmx1g -XX:+UseG1GC",
        ),
        ({"KAFKA_HEAP_OPTS": ""}, "-Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"),
    ],
)
def test_a_node_is_started_as_the_variables_of_kafkas_scripts_say(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], options: str
) -> None:
    for name in ("KAFKA_HEAP_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    play(tools, "java", f'echo an-id; echo "$@" >> {tmp_path}/asked')
    (tmp_path / "node").mkdir()
    with pytest.raises(BrokerUnavailable):
        start_kafka(tmp_path / "libs", tmp_path / "node")
    assert (tmp_path / "asked").read_text().splitlines()[-1].startswith(f"{options} -Dorg.slf4j")
