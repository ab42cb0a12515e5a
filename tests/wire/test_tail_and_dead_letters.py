"""What a person sees of a running space: topics followed, dead letters listed, explained and put in again."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from space import Space

from cdp_stream.errors import CdpStreamError
from cdp_stream.stream.broker import Broker
from cdp_stream.stream.kafka_log import KafkaLog
from cdp_stream.stream.reading import follow

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]

TOPOLOGY: dict[str, Any] = {
    "space": "letters",
    "partitions": 2,
    "sources": [{"name": "web", "topic": "events"}],
    "audiences": [
        {
            "key": "payers",
            "definition": "event('Paid').count() >= 1",
            "include_anonymous": True,
            "destinations": ["crm"],
        }
    ],
    "destinations": [{"name": "crm", "topic": "dest.crm"}],
}
PAID = {"type": "track", "event": "Paid", "timestamp": "2026-01-01T00:00:00Z"}
BY_CARD = {**PAID, "messageId": "m-card", "properties": {"card_no": "c-1"}}
LINES = [
    json.dumps({**PAID, "messageId": "m-1", "userId": "u-1"}).encode(),
    b"\x1b[2Jbroken",
    json.dumps(BY_CARD).encode(),
    json.dumps({**PAID, "messageId": "m-2", "userId": ["u-1"]}).encode(),
]


@pytest.fixture
def space(kafka: Broker, topic_prefix: str, tmp_path: Path) -> Iterator[Space]:
    space = Space(kafka.bootstrap, topic_prefix, tmp_path, TOPOLOGY)
    space.create_sources()
    worker = space.start()
    try:
        space.produce(LINES)
        space.wait_until_done(len(LINES))
        yield space
    finally:
        space.stop(worker)


def command(space: Space, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "cdp_stream", *arguments, str(space.folder)]


def lines(space: Space, *arguments: str) -> list[Any]:
    done = subprocess.run(
        [*command(space, *arguments), "--json"],
        env=space.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_topics_are_followed_and_dead_letters_put_in_again(space: Space) -> None:
    prefix = space.settings.topic_prefix
    (entered,) = lines(space, "tail", "audiences", "--from-beginning", "--limit", "1")
    assert ("entered", "payers", entered["key"]) == (
        entered["value"]["change"], entered["value"]["audience_key"], entered["value"]["profile_id"])  # fmt: skip
    assert 2 == len(lines(space, "tail", "destinations", "--from-beginning", "--limit", "2"))

    groups = lines(space, "dead-letters", "list")
    assert {("not_json", 1), ("no_identifiers", 1), ("wrong_type", 1)} == {(g["reason"], g["count"]) for g in groups}
    number = next(group["first"] for group in groups if group["reason"] == "not_json")
    shown = subprocess.run(
        command(space, "dead-letters", "explain", str(number)), env=space.environ, capture_output=True, check=False
    )
    assert (0, True, False) == (shown.returncode, rb"\x1b[2Jbroken" in shown.stdout, b"\x1b" in shown.stdout)

    # Nothing happens without --yes; and what would be refused again is left out either way.
    (plan,) = lines(space, "dead-letters", "replay")
    assert {"found": 3, "fit": 1, "put_again": 0, "left_out": {"refused_again": 2, "truncated": 0}} == plan
    # What was wrong is put right: the card becomes an identifier. Then the record finds its profile.
    space.rewrite(
        {**TOPOLOGY, "identity": {"identifiers": [{"type": "user_id"}, {"type": "card", "keys": ["card_no"]}]}}
    )
    assert ["applied"] == [result["outcome"] for result in lines(space, "apply")]
    assert [1] == [result["put_again"] for result in lines(space, "dead-letters", "replay", "--yes")]
    space.wait_until_done(len(LINES) + 1)
    (profile,) = lines(space, "inspect", "card:c-1", "--topology")
    assert (["payers"], ["m-card"]) == (profile["audiences"], profile["message_ids"])
    # Once more changes nothing: its message id is known.
    lines(space, "dead-letters", "replay", "--yes")
    space.wait_until_done(len(LINES) + 2)
    digest, counts, _ = space.counts()
    assert (digest, counts) == space.recomputed()
    assert 2 == counts["audience-changes"]

    with subprocess.Popen(
        command(space, "tail", "dead-letters"),
        env=space.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Tests that a shell has put into its background have Ctrl-C ignored, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread holds a lock here
    ) as follower:
        try:
            time.sleep(5)
            space.produce([b"more"])
            assert follower.stdout is not None
            said = follower.stdout.readline().decode()
            follower.send_signal(signal.SIGINT)
            _, error = follower.communicate(timeout=30)
        finally:
            follower.kill()
    assert (0, b"") == (follower.returncode, error)
    assert f"not_json  {prefix}events/0/" in said, said


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_whoever_follows_a_topic_is_told_that_it_is_gone(kafka: Broker, topic_prefix: str, is_made_anew: bool) -> None:
    topic = f"{topic_prefix}followed"

    async def read() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(topic, 2, 1)])
            log = KafkaLog({"bootstrap_servers": kafka.bootstrap})
            reading = asyncio.ensure_future(anext(follow(log, [topic], from_beginning=False)))
            await asyncio.sleep(2)
            await admin.delete_topics([topic])
            if is_made_anew:
                await asyncio.sleep(1)
                await admin.create_topics([NewTopic(topic, 2, 1)])
            await asyncio.wait_for(reading, 30)
        finally:
            await admin.close()

    # Who looks between the two says that it was deleted.
    says = "was deleted( and made anew)? while" if is_made_anew else "was deleted while"
    with pytest.raises(CdpStreamError, match=f"{topic}: the topic {says}"):
        asyncio.run(read())
