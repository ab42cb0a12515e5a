"""Identity on random streams of random configurations: same as the slow model, and the promised laws."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from identity_model import PERIOD_MS, Model

from cdp_stream.testing import TopologyDriver

START = datetime(2025, 1, 1, tzinfo=UTC)
TYPES = ("user_id", "email", "anonymous_id", "app_id")
EXTRACTION = ("user_id", "anonymous_id", "app_id", "email")
PERIODS = tuple(PERIOD_MS)

configs = st.fixed_dictionaries(
    {
        "order": st.permutations(TYPES),
        "limits": st.fixed_dictionaries({t: st.tuples(st.integers(1, 3), st.sampled_from(PERIODS)) for t in TYPES}),
        "minimal": st.booleans(),
        "merges_max": st.sampled_from([0, 1, 2, 100]),
        "mappings_max": st.sampled_from([2, 4, 1000]),
    }
)
identifiers = st.fixed_dictionaries({}, optional={t: st.integers(0, 4) for t in TYPES}).filter(bool)
PAUSES = (0, 1, 5, 23, 24, 25, 7 * 24 - 1, 7 * 24, 30 * 24, 365 * 24 - 1, 365 * 24)
"""Hours: on the edges of all periods, and about them."""
LATENESS = (0, 0, 0, 0, 3, 24, 7 * 24)
streams = st.lists(st.tuples(identifiers, st.sampled_from(PAUSES), st.sampled_from(LATENESS)), min_size=1, max_size=25)
Stream = list[tuple[dict[str, int], int, int]]


def topology(config: dict[str, Any]) -> dict[str, Any]:
    listed = [{"type": t, "limit": config["limits"][t][0], "period": config["limits"][t][1]} for t in config["order"]]
    return {
        "space": "laws",
        "sources": [{"name": "web", "topic": "web"}],
        "partitions": 2,
        "identity": {
            "identifiers": listed,
            "demotion": "minimal" if config["minimal"] else "lowest_priority",
            "merges_max": config["merges_max"],
            "mappings_max": config["mappings_max"],
            "dedupe_horizon": "36500d",
        },
    }


def event_of(ids: dict[str, int], number: int, time: datetime) -> dict[str, Any]:
    event: dict[str, Any] = {"type": "identify", "messageId": f"m{number:04d}", "traits": {}}
    event["timestamp"] = time.isoformat()
    for type_, value in ids.items():
        text = f"{type_}-{value}"
        match type_:
            case "user_id":
                event["userId"] = text
            case "anonymous_id":
                event["anonymousId"] = text
            case "email":
                event["traits"]["email"] = text
            case _:
                event["traits"]["appId"] = text
    return event


def run(config: dict[str, Any], stream: Stream) -> tuple[TopologyDriver, Model, list[int]]:
    driver = TopologyDriver(topology(config))
    model = Model(
        list(config["order"]), config["limits"], config["minimal"], config["merges_max"], config["mappings_max"]
    )
    hours, homes = 0, []
    for number, (ids, pause, late) in enumerate(stream):
        hours += pause
        now = START + timedelta(hours=hours)
        time = now - timedelta(hours=late)
        driver.put(event_of(ids, number, time), received_at=now)
        ordered = [(t, f"{t}-{ids[t]}") for t in EXTRACTION if t in ids]
        homes.append(model.resolve(ordered, int(time.timestamp() * 1000)))
    return driver, model, homes


def owned(driver: TopologyDriver) -> list[set[tuple[str, str]]]:
    return [{(known["type"], known["id"]) for known in profile["external_ids"]} for profile in driver.profiles()]


@given(configs, streams)
def test_same_as_the_slow_model(config: dict[str, Any], stream: Stream) -> None:
    driver, model, homes = run(config, stream)
    assert [ids for _, ids in sorted(model.owned().items())] == owned(driver)
    events: dict[int, list[str]] = {}
    for number, home in enumerate(homes):
        events.setdefault(model.survivor(home), []).append(f"m{number:04d}")
    assert [messages for _, messages in sorted(events.items())] == [sorted(p["message_ids"]) for p in driver.profiles()]


@given(configs, streams)
def test_no_external_id_has_two_owners(config: dict[str, Any], stream: Stream) -> None:
    driver, _, _ = run(config, stream)
    counts = Counter(external_id for ids in owned(driver) for external_id in ids)
    assert {} == {external_id: count for external_id, count in counts.items() if count > 1}


@given(configs, streams)
def test_delivering_a_prefix_again_changes_nothing(config: dict[str, Any], stream: Stream) -> None:
    driver, _, _ = run(config, stream)
    before = driver.profiles()
    driver.take("ledger")
    for number, (ids, _, _) in enumerate(stream[: len(stream) // 2 + 1]):
        driver.put(event_of(ids, number, START))
    assert before == driver.profiles()
    assert [] == driver.take("ledger")


@given(streams)
def test_without_limits_profiles_are_connected_components(stream: Stream) -> None:
    config = {
        "order": TYPES,
        "limits": dict.fromkeys(TYPES, (1000, "ever")),
        "minimal": False,
        "merges_max": 1000,
        "mappings_max": 1000,
    }
    driver, _, _ = run(config, stream)
    graph = nx.Graph()
    for ids, _, _ in stream:
        nodes = [(t, f"{t}-{value}") for t, value in ids.items()]
        nx.add_path(graph, nodes)
        graph.add_nodes_from(nodes)
    expected = {frozenset(component) for component in nx.connected_components(graph)}
    assert expected == {frozenset(ids) for ids in owned(driver)}
