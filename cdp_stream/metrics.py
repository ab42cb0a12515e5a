"""Every metric, declared in one table; steps are turned into them here and nowhere else.

The core neither logs nor counts: it hands over a tally with each step, and this file says what the tally means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cdp_stream.model.event import RawRecord
from cdp_stream.stages.identity import IdentityStep
from cdp_stream.stages.profile_shapes import ProfileStep

_SECONDS: Final = tuple(
    ms / 1000
    for ms in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12.5, 15, 20, 25, 35, 50, 75, 100, 250, 500, 1000, 2500, 5000, 10000, 60000)
)
_Tell = Callable[[float], None]
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 700, 1000, 2000)


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric: its kind, name, labels and meaning."""

    kind: str
    name: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


TABLE: Final[tuple[MetricRow, ...]] = (
    MetricRow(
        "histogram",
        "cdp_resolve_seconds",
        (),
        "Resolve latency of a step: taken from the log, decided, outputs acknowledged, state stored",
        _SECONDS,
    ),
    MetricRow(
        "histogram", "cdp_resolve_acked_seconds", (), "The same, up to the acknowledgement of the outputs", _SECONDS
    ),
    MetricRow(
        "histogram",
        "cdp_end_to_end_seconds",
        (),
        "From the Kafka timestamp of a step's oldest and newest source record to its stored resolution",
        _SECONDS,
    ),
    MetricRow(
        "histogram",
        "cdp_profile_step_seconds",
        (),
        "A step of the profile stage: taken, acknowledged, stored",
        _SECONDS,
    ),
    MetricRow("histogram", "cdp_step_records", (), "Source records in a step", _SIZES),
    MetricRow("counter", "cdp_events_total", ("type", "outcome"), "Events by type and outcome (resolved, duplicate)"),
    MetricRow(
        "counter", "cdp_duplicates_total", (), "Events whose message id was seen before, within the dedupe horizon"
    ),
    MetricRow("counter", "cdp_dead_letters_total", ("reason",), "Unusable records by reason"),
    MetricRow("counter", "cdp_decisions_total", ("decision",), "Ledger rows by decision (profile_created, …)"),
    MetricRow("counter", "cdp_profiles_created_total", (), "Profiles created"),
    MetricRow("counter", "cdp_merges_total", (), "Events that merged profiles"),
    MetricRow("counter", "cdp_demotions_total", (), "Identifiers left out of an event because a limit would break"),
    MetricRow("counter", "cdp_violations_total", ("violation",), "Rule violations by their documented names"),
    MetricRow("gauge", "cdp_source_lag_records", (), "Source records not yet decided"),
    MetricRow(
        "gauge",
        "cdp_stage_lag_messages",
        ("stage", "partition"),
        "Messages between a stage's state and its input's end",
    ),
    MetricRow(
        "gauge",
        "cdp_standby_lag_records",
        ("stage", "partition"),
        "Changelog records that a standby of a partition has still to read (CDP_STREAM_STANDBY)",
    ),
    MetricRow("gauge", "cdp_stream_time_seconds", (), "Stream time (`now`) of the identity stage"),
    MetricRow("gauge", "cdp_profiles", (), "Profiles ever created, absorbed ones included"),
    MetricRow("gauge", "cdp_parked_profiles", ("partition",), "Profiles that wait for the state of one they absorb"),
    MetricRow("gauge", "cdp_state_bytes", ("stage", "partition"), "Size of a stage partition's state on disk"),
    MetricRow("counter", "cdp_trait_changes_total", ("class",), "Trait changes by class (custom, computed)"),
    MetricRow("counter", "cdp_audience_transitions_total", ("audience", "change", "cause"), "Entries and exits"),
    MetricRow("counter", "cdp_due_times_total", (), "Due times fired: evaluations of a profile that time alone caused"),
    MetricRow(
        "counter",
        "cdp_state_limits_total",
        ("kind",),
        "Events that met a trait's state, or the retained history, at its limit (docs/traits.md, docs/backfill.md)",
    ),
    MetricRow(
        "counter", "cdp_backfill_profiles_total", (), "Profiles evaluated because a topology version came into force"
    ),
    MetricRow("counter", "cdp_backfill_events_total", (), "Past events folded anew for what such a version computes"),
    MetricRow(
        "gauge",
        "cdp_backfill_progress",
        ("partition",),
        "Share of a partition's profiles that the topology version coming into force has passed; 1 when none is",
    ),
    MetricRow("gauge", "cdp_audience_size", ("audience", "partition"), "Members of an audience in a partition"),
    MetricRow("counter", "cdp_destination_messages_total", ("destination",), "Messages to a destination"),
    MetricRow(
        "counter",
        "cdp_webhook_messages_total",
        ("destination", "outcome"),
        "Messages that a webhook connector is done with (delivered, dead_lettered)",
    ),
    MetricRow(
        "counter",
        "cdp_webhook_requests_total",
        ("destination", "outcome"),
        "Requests of a webhook connector by what they came to (delivered, http_503, timeout, connection, …)",
    ),
    MetricRow(
        "histogram", "cdp_webhook_request_seconds", ("destination",), "How long a webhook took to answer", _SECONDS
    ),
    MetricRow("gauge", "cdp_webhook_in_flight", ("destination",), "Messages taken from the topic and not done with"),
    MetricRow("gauge", "cdp_webhook_lag_records", ("destination",), "Messages not taken from the topic yet"),
)


def metrics_markdown() -> str:
    """The table as documentation (docs/metrics.md)."""
    lines = [
        "# Metrics",
        "",
        "Served on `/metrics` of every worker process, in Prometheus' text format. Generated from",
        "`cdp_stream/metrics.py` by `make docs`; do not edit.",
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    for row in TABLE:
        labels = ", ".join(f"`{label}`" for label in row.labels) or "–"
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.meaning} |")
    return "\n".join(lines) + "\n"


class Metrics:
    """The declared metrics on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._by_name: dict[str, Any] = {}
        for row in TABLE:
            options: dict[str, Any] = {"labelnames": row.labels, "registry": self.registry}
            match row.kind:
                case "histogram":
                    made: Any = Histogram(row.name, row.meaning, buckets=row.buckets, **options)
                case "counter":
                    made = Counter(row.name, row.meaning, **options)
                case _:
                    made = Gauge(row.name, row.meaning, **options)
            self._by_name[row.name] = made

    def __getitem__(self, name: str) -> Any:
        """The metric of that name; KeyError if it is not in the table."""
        return self._by_name[name]

    def standby(self, stage: str) -> Callable[[int, int | None], None]:
        """What the standbys of a stage report: the partition, and how many changelog records they have still to read;
        None where they stand by no more.
        """
        gauge = self["cdp_standby_lag_records"]

        def report(partition: int, behind: int | None) -> None:
            if behind is None:
                gauge.remove_by_labels({"stage": stage, "partition": str(partition)})
            else:
                gauge.labels(stage, str(partition)).set(behind)

        return report


class IdentityMetrics:
    """What the identity stage reports."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._acked_seconds = metrics["cdp_resolve_acked_seconds"]
        self._stored_seconds = metrics["cdp_resolve_seconds"]
        self._step_records = metrics["cdp_step_records"]
        self._known: dict[tuple[str, ...], list[_Tell]] = {}

    def step(self, step: IdentityStep, records: int, acked_s: float, stored_s: float) -> None:
        """One step: its figures, and how long it took to be acknowledged and stored."""
        if records:
            self._acked_seconds.observe(acked_s)
            self._stored_seconds.observe(stored_s)
            self._step_records.observe(records)
        for what, count in step.tally.items():
            told = self._known.get(what)
            if told is None:
                told = self._known[what] = self._counts(what)
            for tell in told:
                tell(count)

    def _counts(self, what: tuple[str, ...]) -> list[_Tell]:
        """What a figure of a tally adds to."""
        metrics = self._metrics
        match what:
            case ("event", type_):
                return [metrics["cdp_events_total"].labels(type_, "resolved").inc]
            case ("duplicate", type_):
                return [metrics["cdp_events_total"].labels(type_, "duplicate").inc, metrics["cdp_duplicates_total"].inc]
            case ("dead_letter", reason):
                return [metrics["cdp_dead_letters_total"].labels(reason).inc]
            case ("decision", decision, violation):
                return self._decision(decision, violation)
            case _:
                return []

    def _decision(self, decision: str, violation: str) -> list[_Tell]:
        metrics = self._metrics
        told: list[_Tell] = [metrics["cdp_decisions_total"].labels(decision).inc]
        if violation:
            told.append(metrics["cdp_violations_total"].labels(violation).inc)
        match decision:
            case "profile_created":
                told.append(metrics["cdp_profiles_created_total"].inc)
            case "profiles_merged":
                told.append(metrics["cdp_merges_total"].inc)
            case "identifier_demoted":
                told.append(metrics["cdp_demotions_total"].inc)
        return told

    def end_to_end(self, clock_ms: int, records: Sequence[RawRecord]) -> None:
        """How long the first and the last record of a step took from being produced to being stored."""
        for record in (records[0], records[-1]):
            self._metrics["cdp_end_to_end_seconds"].observe(max(0.0, (clock_ms - record.timestamp) / 1000))

    def position(self, now_ms: int, profiles: int, lag_records: int) -> None:
        """Where the stage stands."""
        self._metrics["cdp_stream_time_seconds"].set(now_ms / 1000)
        self._metrics["cdp_profiles"].set(profiles)
        self._metrics["cdp_source_lag_records"].set(lag_records)

    def state(self, size_bytes: int, lag_messages: int) -> None:
        """Size of the state, and entries of the identity log not done yet."""
        self._metrics["cdp_state_bytes"].labels("identity", "0").set(size_bytes)
        self._metrics["cdp_stage_lag_messages"].labels("identity", "0").set(lag_messages)


class ProfileMetrics:
    """What a partition of the profile stage reports."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._step_seconds = metrics["cdp_profile_step_seconds"]
        # Finding a metric by its labels costs several times what counting does, and each step counts a dozen.
        self._known: dict[tuple[int, tuple[str, ...]], list[_Tell]] = {}

    def step(self, partition: int, step: ProfileStep, stored_s: float) -> None:
        """One step: its figures, and how long it took."""
        self._step_seconds.observe(stored_s)
        for what, count in step.tally.items():
            told = self._known.get((partition, what))
            if told is None:
                told = self._known[partition, what] = self._counts(partition, what)
            for tell in told:
                tell(count)

    def _counts(self, partition: int, what: tuple[str, ...]) -> list[_Tell]:
        """What a figure of a tally adds to."""
        metrics = self._metrics
        told: list[_Tell] = []
        match what:
            case ("trait", class_):
                told.append(metrics["cdp_trait_changes_total"].labels(class_).inc)
            case ("audience", key, change, cause):
                told.append(metrics["cdp_audience_transitions_total"].labels(key, change, cause).inc)
                size = metrics["cdp_audience_size"].labels(key, str(partition))
                told.append(size.inc if change == "entered" else size.dec)
            case ("due",):
                told.append(metrics["cdp_due_times_total"].inc)
            case ("backfill", of):
                told.append(metrics[f"cdp_backfill_{of}_total"].inc)
            case ("limit", kind):
                told.append(metrics["cdp_state_limits_total"].labels(kind).inc)
            case ("destination", name):
                told.append(metrics["cdp_destination_messages_total"].labels(name).inc)
        return told

    def audience_sizes(self, partition: int, sizes: Mapping[str, int]) -> None:
        """Members by audience, counted from the state when a partition is taken over; steps since then are added."""
        for key, size in sizes.items():
            self._metrics["cdp_audience_size"].labels(key, str(partition)).inc(size)

    def gone(self, partition: int) -> None:
        """The partition is another worker's: what it holds is told there."""
        self._known = {known: told for known, told in self._known.items() if known[0] != partition}
        for name in ("cdp_audience_size", "cdp_state_bytes", "cdp_parked_profiles", "cdp_stage_lag_messages"):
            self._metrics[name].remove_by_labels({"partition": str(partition)})

    def backfill(self, partition: int, progress: float) -> None:
        """How far a topology version that is coming into force is."""
        self._metrics["cdp_backfill_progress"].labels(str(partition)).set(progress)

    def state(self, partition: int, size_bytes: int, parked: int, lag_messages: int) -> None:
        """Size of the state, profiles that wait, messages not done yet."""
        self._metrics["cdp_state_bytes"].labels("profiles", str(partition)).set(size_bytes)
        self._metrics["cdp_parked_profiles"].labels(str(partition)).set(parked)
        self._metrics["cdp_stage_lag_messages"].labels("profiles", str(partition)).set(lag_messages)


class WebhookMetrics:
    """What a webhook connector reports."""

    def __init__(self, metrics: Metrics, destination: str) -> None:
        self._metrics = metrics
        self._destination = destination

    def request(self, outcome: str, seconds: float) -> None:
        """One request: `delivered`, or the reason why not."""
        self._metrics["cdp_webhook_requests_total"].labels(self._destination, outcome).inc()
        self._metrics["cdp_webhook_request_seconds"].labels(self._destination).observe(seconds)

    def done(self, outcome: str) -> None:
        """One message is `delivered` or `dead_lettered`."""
        self._metrics["cdp_webhook_messages_total"].labels(self._destination, outcome).inc()

    def position(self, in_flight: int, lag_records: int) -> None:
        """Where the connector stands."""
        self._metrics["cdp_webhook_in_flight"].labels(self._destination).set(in_flight)
        self._metrics["cdp_webhook_lag_records"].labels(self._destination).set(lag_records)
