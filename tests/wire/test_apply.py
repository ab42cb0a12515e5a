"""A topology version is put in force on a running space: by a control in the log, without disturbing its writer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from space import Space

from cdp_stream.stream.broker import Broker
from cdp_stream.testing.people import People

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]

TOPOLOGY: dict[str, Any] = {
    "space": "applied",
    "partitions": 2,
    "sources": [{"name": "web", "topic": "events"}],
    "traits": [{"key": "orders", "definition": "event('Order Completed').count()", "destinations": ["crm"]}],
    "destinations": [{"name": "crm", "topic": "dest.crm"}],
}
WITH_AUDIENCE = {**TOPOLOGY, "audiences": [{"key": "buyers", "definition": "trait('orders') >= 1"}]}
WITH_ADS = {
    **WITH_AUDIENCE,
    "traits": [{"key": "orders", "definition": "event('Order Completed').count()", "destinations": ["crm", "ads"]}],
    "destinations": [{"name": "crm", "topic": "dest.crm"}, {"name": "ads", "topic": "dest.ads"}],
}


def run(space: Space, *arguments: str) -> tuple[int, dict[str, Any], str]:
    done = space.run_for_json(*arguments, str(space.folder))
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_a_space_takes_new_versions_while_it_runs_and_while_it_does_not(
    kafka: Broker, topic_prefix: str, tmp_path: Path
) -> None:
    space = Space(kafka.bootstrap, topic_prefix, tmp_path, TOPOLOGY)
    space.create_sources()
    assert (1, {}) == run(space, "apply")[:2]
    worker = space.start()
    try:
        space.produce(list(People(3, 60).lines(1_000)))
        space.wait_until_done(1_000)
        first = space.compiled.version
        # A version with the same topics: the writer goes on as it is.
        space.rewrite(WITH_AUDIENCE)
        code, result, error = run(space, "apply")
        assert (0, "applied", first) == (code, result["outcome"], result["based_on"]), error
        assert ["audiences.buyers"] == [change["path"] for change in result["changes"]]
        assert "in_force" == run(space, "apply")[1]["outcome"]
        code, stands, error = run(space, "status")
        assert 0 == code, error
        assert stands["topology"]["file_is_in_force"]
        assert [1, 1] == [group["members"] for group in stands["groups"].values()]
        assert [250] * 4 == [part["position"] for part in stands["sources"]]
        assert 0 == sum(part["lag"] for part in stands["sources"])
        assert 0 < stands["profiles_created"] < 1_000
        space.produce(list(People(4, 60).lines(1_000)))
        space.wait_until_done(2_000)
        assert "other destinations" not in space.log.read_text()
        # A version with a new destination: its topic is claimed by the profile stage.
        space.rewrite(WITH_ADS)
        assert "applied" == run(space, "apply")[1]["outcome"]
        space.produce(list(People(5, 60).lines(1_000)))
        space.wait_until_done(3_000)
        assert "other destinations" in space.log.read_text()
        assert None is worker.poll()
        # What is fixed for the life of a space is refused before anything is sent.
        space.rewrite({**WITH_ADS, "partitions": 3})
        code, _, error = run(space, "apply")
        assert (3, True) == (code, "partitions is fixed for the life of a space" in error), error
    finally:
        space.stop(worker)
    # Without a worker the control waits; the next worker decides it, with another file before it or not.
    space.rewrite(TOPOLOGY)
    code, result, error = run(space, "apply")
    assert (0, "waiting", 0) == (code, result["outcome"], result["workers"]), error
    code, _, error = run(space, "apply")
    assert (1, True) == (code, "waits" in error), error
    space.rewrite(WITH_AUDIENCE)
    worker = space.start()
    try:
        space.produce(list(People(6, 60).lines(1_000)))
        space.wait_until_done(4_000)
    finally:
        space.stop(worker)
    digest, counts, _ = space.counts()
    assert (digest, counts) == space.recomputed()
    assert counts["destinations/ads"] > 0
    space.rewrite(TOPOLOGY)
    assert "in_force" == run(space, "apply")[1]["outcome"]
