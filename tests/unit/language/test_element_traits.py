"""A trait of each element of another one, by `$`, is the array of them, in rows, in messages, and to whoever reads it."""

from __future__ import annotations

from typing import Any

import pytest

from cdp_stream.testing import TopologyDriver

TOPOLOGY: dict[str, Any] = {
    "space": "elements",
    "sources": [{"name": "web", "topic": "web"}],
    "destinations": [{"name": "crm", "topic": "crm", "send": ["track"]}],
    "traits": [
        {"key": "skus", "definition": "trait('items.$.sku')", "destinations": ["crm"]},
        {"key": "again", "definition": "trait('skus.$')"},
    ],
    "audiences": [
        {"key": "hats", "definition": "trait('skus').one_of('hat')"},
        {"key": "none", "definition": "trait('skus').absent()"},
    ],
}


@pytest.mark.parametrize("compiled", [True, False])
def test_a_trait_of_each_element_is_an_array_and_of_none_no_value(*, compiled: bool) -> None:
    driver = TopologyDriver(TOPOLOGY, compiled=compiled)

    def told(number: int, items: Any) -> list[Any]:
        driver.put({"type": "identify", "messageId": f"m{number}", "userId": "u", "traits": {"items": items}})
        rows = [row["value"] for row in driver.take("trait_changes") if row["trait_key"] == "skus"]
        sent = [message["properties"]["skus"] for message in driver.take("destinations/crm")]
        assert rows == sent
        profile = driver.profile("user_id:u")
        assert profile is not None
        assert profile["traits"].get("again") == profile["traits"].get("skus")
        return [rows, profile["audiences"]]

    assert told(1, [{"sku": "hat"}, {"sku": "bag"}, {}]) == [[["hat", "bag"]], ["hats"]]
    assert told(2, [{"sku": "hat"}, {"sku": "bag"}]) == [[], ["hats"]]
    assert told(3, [{"sku": None}, 7]) == [[None], ["none"]]
    assert told(4, "no array") == [[], ["none"]]
