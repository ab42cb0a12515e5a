"""What somebody could send to harm a space, through a real broker: decided or kept as a dead letter, listed, explained, and
put in again where a new topology version makes it usable; the space goes on, equal to its recomputation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from space import Space

from cdp_stream.stream.broker import Broker

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]
IDENTIFIERS = [{"type": "user_id"}, {"type": "anonymous_id", "limit": 5_000}]
TOPOLOGY: dict[str, Any] = {
    "space": "hostile",
    "partitions": 4,
    "sources": [{"name": "web", "topic": "events"}],
    "identity": {"identifiers": IDENTIFIERS},
    "audiences": [{"key": "active", "definition": "event('View').within(1 hours).count() >= 1"}],
}
VIEW = {"type": "track", "event": "View"}
CROWD = 120
BY_CARD = [
    json.dumps({**VIEW, "messageId": f"card-{n}", "properties": {"card_no": f"c-{n}"}}).encode() for n in range(3)
]
REFUSED = {
    "too_large": json.dumps({**VIEW, "userId": "x" * 1_000_000}).encode(),
    "id_too_long": json.dumps({**VIEW, "userId": "x" * 501}).encode(),
    "message_id_too_long": json.dumps({**VIEW, "userId": "u", "messageId": "m" * 30_000}).encode(),
    "too_deep": b"[" * 30_000,
    "number_out_of_range": b'{"type":"track","event":"x","userId":1' + b"0" * 30_000 + b"}",
    "invalid_utf8": b'{"type":"track","event":"x","userId":"\\ud800"}',
    "not_json": b"\x1b[2J\x00",
}


def storm() -> list[bytes]:
    """A crowd of strangers, all of whom turn out to be one user; and more of them ever after."""
    crowd = [{**VIEW, "anonymousId": f"a-{number}"} for number in range(CROWD)]
    merged = [{**event, "userId": "everybody"} for event in crowd]
    later = [{**VIEW, "anonymousId": f"new-{number}", "userId": "everybody"} for number in range(1_000)]
    return [json.dumps(event).encode() for event in (*crowd, *merged, *later, {**VIEW, "userId": "somebody"})]


def command(space: Space, *arguments: str) -> list[Any]:
    done = space.run_for_json(*arguments, str(space.folder))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_space_under_attack_goes_on_and_says_what_it_kept(kafka: Broker, topic_prefix: str, tmp_path: Path) -> None:
    space = Space(kafka.bootstrap, topic_prefix, tmp_path, TOPOLOGY)
    space.create_sources()
    attack = [*REFUSED.values(), *storm(), *BY_CARD]
    with space.at_work() as worker:
        space.produce(attack)
        space.wait_until_done(len(attack))
        assert worker.poll() is None
        groups = {group["reason"]: group for group in command(space, "dead-letters", "list")}
        assert {**dict.fromkeys(REFUSED, 1), "no_identifiers": 3} == {
            reason: group["count"] for reason, group in groups.items()
        }
        for reason in ("too_large", "not_json"):
            value = REFUSED[reason]
            (letter,) = command(space, "dead-letters", "explain", str(groups[reason]["first"]))
            assert (reason, len(value), len(value) > 65_536) == (letter["reason"], letter["size"], letter["truncated"])
            assert letter["meaning"]
            assert letter["remedy"]
        (plan,) = command(space, "dead-letters", "replay")
        assert {"refused_again": len(REFUSED) - 1, "truncated": 1} == plan["left_out"]
        # The fix: the card is an identifier from now on.
        card = {"type": "card", "keys": ["card_no"]}
        space.rewrite({**TOPOLOGY, "identity": {"identifiers": [*IDENTIFIERS, card]}})
        command(space, "apply")
        (done,) = command(space, "dead-letters", "replay", "--yes")
        assert 3 == done["put_again"]
        space.wait_until_done(len(attack) + 3)
        (victim,) = command(space, "inspect", "user_id:everybody", "--topology")
        # Whom the storm met in which order is the log's matter; that it ended at the caps is not.
        assert (100, 1_000) == (len(victim["absorbed"]), len(victim["external_ids"]))
        (by_card,) = command(space, "inspect", "card:c-2", "--topology")
        assert ["card-2"] == by_card["message_ids"]
