"""An event that could not be used is not remembered: after a new topology version the same message id counts."""

from __future__ import annotations

from typing import Any

from cdp_stream.testing import TopologyDriver

BASE: dict[str, Any] = {"space": "shop", "sources": [{"name": "web", "topic": "events"}]}
WITH_CARD = {**BASE, "identity": {"identifiers": [{"type": "user_id"}, {"type": "card", "keys": ["card_no"]}]}}
PAID = {"type": "track", "event": "Paid", "messageId": "m-1", "properties": {"card_no": "c-1"}}


def test_the_same_message_is_a_dead_letter_each_time_and_an_event_once() -> None:
    driver = TopologyDriver(BASE, partitions=2)
    for _ in range(2):
        driver.put(PAID)
    assert ["no_identifiers"] * 2 == [letter["reason"] for letter in driver.take("dead_letters")]
    driver.reconfigure(WITH_CARD)
    for _ in range(2):
        driver.put(PAID)
    profile = driver.profile("card:c-1")
    assert profile is not None
    assert ["m-1"] == profile["message_ids"]
    assert [] == driver.take("dead_letters")
    driver.close()


def test_an_object_as_an_identifier_of_the_topology_is_a_dead_letter_and_nobodys_event() -> None:
    driver = TopologyDriver(WITH_CARD, partitions=2)
    odd = {**PAID, "userId": "u1", "properties": {"card_no": {"no": "c-1"}}}
    driver.put(odd)
    [letter] = driver.take("dead_letters")
    assert ("wrong_type", "properties.card_no") == (letter["reason"], letter["field"])
    assert [] == driver.profiles()
    # corrected and sent again under the same id, it is no duplicate
    driver.put({**PAID, "userId": "u1"})
    profile = driver.profile("card:c-1")
    assert profile is not None
    assert ["m-1"] == profile["message_ids"]
    driver.close()
