"""What a seed stands for: the topology and its versions, the traffic, the sizes, and the faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from cdp_stream.config.topology import Topology, parse_topology
from cdp_stream.testing.simulation.definitions import READS, drawn_definitions

SOURCES: Final = (
    {"name": "web", "topic": "events.web"},
    {"name": "crm", "topic": "events.crm"},
    {"name": "batch", "topic": "events.batch", "identity": False},
)
_COMPUTED: Final = ("traits", "audiences")
_PERIODS: Final = ("ever", "ever", "annually", "weekly", "daily")


@dataclass(frozen=True, slots=True)
class Faults:
    """How often what goes wrong."""

    lives: int
    """How many lives of owners end badly, all together; after that the world is kind, so that the run ends."""
    actions_mean: int
    """After how many actions such a life ends, on average."""
    zombies: float
    """Share of endings in which the older owner is not told and goes on."""
    graceful: float
    """Share of endings that are an ordinary rebalance."""
    lost_disks: float
    unflushed: float
    """Share of beginnings that find a store without its last commits: it keeps no log of its own."""
    slow_partitions: float
    answers_lost: float
    redelivery: float
    """Share of hand-overs after which the agent begins again from what was committed."""
    passed_over: float
    """Share of messages that the agent never brings, as Faust does with some in the midst of a rebalance."""
    clock_jumps: float
    """Share of source records at which the broker's clock jumps."""
    compactions: bool
    resyncs: float
    """Share of source records at which an operator asks for a resync."""
    forged_slices: float
    """Share of source records at which somebody appends an old slice once more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One simulated run; a function of the seed and the number of events."""

    seed: int
    events: int
    people: int
    partitions: int
    source_partitions: int
    step_events: int
    step_bytes: int
    speed: int
    """Milliseconds of the world's clock in one millisecond of the run."""
    traffic_s: float
    """Over how many seconds of the run the records are sent."""
    quiet_s: float
    """How long only clocks come after the last record."""
    versions: tuple[Topology, ...]
    """The first topology, and those that come into force later."""
    unit_s: int
    """The length of the shortest windows, in seconds of the world's clock."""
    links: float
    """Share of records that say that two people are one."""
    chains: float
    """Share of records that begin a chain of mergers, each of which absorbs the survivor of the one before."""
    late: float
    """Share of records that arrive long after they were made."""
    transactions: float
    """Share of records whose sender gives a transaction up, or holds one open."""
    faults: Faults
    store: str

    def draw(self, what: str) -> Random:
        """Chance for one purpose, independent of that for others."""
        return Random(f"{self.seed}/{what}")  # noqa: S311 - a simulation, no secrets


def plan_of(seed: int, events: int, *, store: str | None = None, faults: bool = True) -> Plan:
    """Everything that a seed decides. `store`: `memory` or `rocksdb`, else every tenth seed is on RocksDB."""
    draw = Random(f"{seed}/plan")  # noqa: S311
    apart = Random(f"{seed}/one more")  # noqa: S311
    partitions = draw.choice((1, 2, 3, 4))
    speed, traffic_s = draw.choice((10, 600, 7_200)), draw.choice((3.0, 8.0))
    # Windows of some hundredths of the traffic's time, so that what they hold comes and goes.
    unit_s = max(1, round(speed * traffic_s / draw.choice((60, 100, 200))))
    versions = [_topology(draw, partitions, unit_s)]
    for _ in range(draw.choice((0, 1, 2, 3))):
        after = _with_one_more(apart, _changed(draw, versions[-1], unit_s))
        versions.append(_without_used_keys(versions, after))
    lists = Random(f"{seed}/lists")  # noqa: S311
    if _has_list(seed):
        versions = [_with_list(lists, version, speed * traffic_s) for version in versions]
    return Plan(
        seed=seed,
        events=events,
        people=draw.choice((3, 6, 12, 30)),
        partitions=partitions,
        source_partitions=draw.choice((1, 2, 3)),
        step_events=draw.choice((1, 3, 7, 20, 100)),
        step_bytes=draw.choice((1_024, 2_000_000)),
        speed=speed,
        traffic_s=traffic_s,
        unit_s=unit_s,
        quiet_s=draw.choice((0.0, 1.0, 3.0)),
        versions=tuple(parse_topology(version) for version in versions),
        links=draw.choice((0.1, 0.22, 0.5)),
        chains=draw.choice((0.0, 0.01, 0.03)),
        late=draw.choice((0.0, 0.05, 0.3)),
        transactions=draw.choice((0.0, 0.0, 0.1)),
        faults=_faults(draw, seed) if faults else _no_faults(),
        store=("rocksdb" if seed % 10 == 0 else "memory") if store is None else store,
    )


def _faults(draw: Random, seed: int) -> Faults:
    apart = Random(f"{seed}/passed over")  # noqa: S311
    return Faults(
        lives=draw.choice((4, 10, 25)),
        actions_mean=draw.choice((30, 120, 400)),
        zombies=draw.choice((0.0, 0.2, 0.5)),
        graceful=draw.choice((0.0, 0.2)),
        lost_disks=draw.choice((0.0, 0.2)),
        unflushed=draw.choice((0.3, 0.9)),
        slow_partitions=draw.choice((0.0, 0.2, 0.5)),
        answers_lost=draw.choice((0.0, 0.0, 0.003)),
        redelivery=draw.choice((0.0, 0.05, 0.2)),
        passed_over=apart.choice((0.0, 0.0, 0.02, 0.2)),
        clock_jumps=draw.choice((0.0, 0.0, 0.03)),
        compactions=draw.random() < 0.5,
        resyncs=apart.choice((0.0, 0.02, 0.05)) if _has_list(seed) else 0.0,
        forged_slices=draw.choice((0.0, 0.0, 0.03)),
    )


def _no_faults() -> Faults:
    return Faults(
        lives=0,
        actions_mean=1,
        zombies=0,
        graceful=0,
        lost_disks=0,
        unflushed=0,
        slow_partitions=0,
        answers_lost=0,
        redelivery=0,
        passed_over=0,
        clock_jumps=0,
        compactions=False,
        resyncs=0,
        forged_slices=0,
    )


def _topology(draw: Random, partitions: int, unit_s: int) -> dict[str, Any]:
    identifiers = [
        {"type": "user_id", "limit": draw.choice((1, 1, 2)), "period": "ever"},
        {"type": "email", "limit": draw.choice((1, 2, 5)), "period": draw.choice(_PERIODS)},
        {"type": "anonymous_id", "limit": draw.choice((1, 2, 5)), "period": draw.choice(_PERIODS)},
        {"type": "loyalty_id", "limit": 1, "period": "ever", "keys": ["loyalty_id"]},
    ]
    return {
        "space": "sim",
        "partitions": partitions,
        "sources": [dict(source) for source in SOURCES],
        "identity": {
            "identifiers": identifiers,
            "demotion": draw.choice(("lowest_priority", "minimal")),
            "merges_max": draw.choice((2, 100, 100)),
            "mappings_max": draw.choice((8, 1000, 1000)),
            "dedupe_horizon": draw.choice(("10m", "7d")),
        },
        **drawn_definitions(draw, unit_s),
        "destinations": [
            {"name": "crm", "topic": "dest.crm", "combine": draw.choice(("product", "per_identifier"))},
            {"name": "ads", "topic": "dest.ads", "send": ["track"], "send_mobile_ids": True},
        ],
    }


def _without_used_keys(versions: Sequence[dict[str, Any]], after: dict[str, Any]) -> dict[str, Any]:
    """The next version without keys that an earlier one had and the last has not, nor what reads them."""
    keys = [{one["key"] for section in _COMPUTED for one in version[section]} for version in versions]
    gone = set().union(*keys) - keys[-1]
    while True:
        left = {
            section: [one for one in after[section] if not gone & {one["key"], *READS.findall(one["definition"])}]
            for section in _COMPUTED
        }
        dropped = {one["key"] for section in _COMPUTED for one in after[section]} - {
            one["key"] for section in _COMPUTED for one in left[section]
        }
        if dropped <= gone:
            return {**after, **left}
        gone |= dropped


def _with_one_more(draw: Random, topology: dict[str, Any]) -> dict[str, Any]:
    """Sometimes with an audience without all of history, or a trait that nothing was kept for so far."""
    what = draw.choice(("nothing", "nothing", "audience", "trait"))
    if what == "nothing":
        return topology
    number = draw.randrange(1_000)
    if what == "trait":
        definition = "event('Order Completed').where(property('revenue') >= 50).unique(property('product'))"
        return {**topology, "traits": [*topology["traits"], {"key": f"bought_{number}", "definition": definition}]}
    historical = draw.choice((False, "1h", "2d"))
    about = {"definition": "event('Product Viewed').count() >= 2", "historical": historical, "include_anonymous": True}
    return {**topology, "audiences": [*topology["audiences"], {"key": f"newly_{number}", **about}]}


def _has_list(seed: int) -> bool:
    """Two seeds in seven have lists and resyncs; the others stay the runs that they were."""
    return seed % 7 in {4, 5}


def _with_list(draw: Random, topology: dict[str, Any], span_s: float) -> dict[str, Any]:
    """A list destination for some of the audiences, synced a few times, or many, while records are sent."""
    every = max(1, round(span_s / draw.choice((2, 7, 30))))
    ours = {"name": "list", "kind": "list", "topic": "dest.list", "sync_every": f"{every}s", "send_mobile_ids": True}
    audiences = [
        {**audience, "destinations": [*audience.get("destinations", ()), "list"]} if draw.random() < 0.7 else audience
        for audience in topology["audiences"]
    ]
    return {**topology, "audiences": audiences, "destinations": [*topology["destinations"], ours]}


def _changed(draw: Random, topology: dict[str, Any], unit_s: int) -> dict[str, Any]:
    """The next version: limits tightened or loosened, definitions changed, gone or new, a source or a destination too."""
    after = {**topology, "audiences": [dict(audience) for audience in topology["audiences"]]}
    identifiers = [dict(rule) for rule in topology["identity"]["identifiers"]]
    identifiers[draw.choice((1, 2))]["limit"] = draw.choice((1, 2, 3, 5))
    after["identity"] = {**topology["identity"], "identifiers": identifiers}
    change = draw.choice(("definition", "gone", "new", "others", "windows", "destination", "identity", "none"))
    if change == "definition":
        after["audiences"][0]["definition"] = f"event('Order Completed').count() >= {draw.randint(2, 4)}"
    elif change == "gone":
        after["audiences"] = [audience for audience in after["audiences"] if audience["key"] != "pro"]
    elif change == "new":
        key = f"viewers_{draw.randrange(1_000)}"
        definition = "event('Product Viewed').count() >= 1"
        after["audiences"].append({"key": key, "definition": definition, "destinations": ["crm"]})
    elif change == "others":
        after.update(drawn_definitions(draw, unit_s))
    elif change == "windows":
        names = tuple(one["key"] for one in (*topology["traits"], *topology["audiences"]))
        after.update(drawn_definitions(draw, max(1, unit_s * draw.choice((1, 2, 4)) // 2), names))
    elif change == "destination":
        name = f"more-{draw.randrange(3)}"
        if name not in {destination["name"] for destination in topology["destinations"]}:
            after["destinations"] = [*topology["destinations"], {"name": name, "topic": f"dest.{name}"}]
        after["audiences"][0]["destinations"] = [name]
    elif change == "identity":
        after["sources"] = [dict(source) for source in topology["sources"]]
        after["sources"][1]["identity"] = not topology["sources"][1].get("identity", True)
    closed = {one["key"] for one in topology["audiences"] if not one.get("include_anonymous", False)}
    after["audiences"] = [
        {**one, "include_anonymous": False} if one["key"] in closed else one for one in after["audiences"]
    ]
    return after
