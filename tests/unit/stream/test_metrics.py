"""What a worker tells of a partition it tells as long as the partition is its own, and no longer."""

from __future__ import annotations

from collections import Counter

from cdp_stream.metrics import Metrics, ProfileMetrics
from cdp_stream.stages.profile_shapes import ProfileStep


def sizes(metrics: Metrics) -> dict[tuple[str, str], float]:
    samples = next(iter(metrics["cdp_audience_size"].collect())).samples
    return {(sample.labels["audience"], sample.labels["partition"]): sample.value for sample in samples}


def test_sizes_of_a_partition_that_went_are_told_no_more() -> None:
    metrics = Metrics()
    told = ProfileMetrics(metrics)
    told.audience_sizes(0, Counter(buyers=3))
    told.audience_sizes(1, Counter(buyers=4, lapsed=1))
    told.state(1, 100, 0, 0)
    told.gone(1)
    assert sizes(metrics) == {("buyers", "0"): 3}
    told.audience_sizes(1, Counter(buyers=5))
    assert sizes(metrics) == {("buyers", "0"): 3, ("buyers", "1"): 5}


def test_a_step_counts_for_its_own_partition_also_after_another_worker_had_it() -> None:
    metrics = Metrics()
    told = ProfileMetrics(metrics)
    step = ProfileStep([], {}, Counter({("audience", "buyers", "entered", "event"): 2}), done=True)
    told.step(0, step, 0.001)
    told.step(1, step, 0.001)
    told.gone(1)
    told.step(1, step, 0.001)
    told.step(1, ProfileStep([], {}, Counter({("audience", "buyers", "exited", "time"): 1}), done=True), 0.001)
    assert sizes(metrics) == {("buyers", "0"): 2, ("buyers", "1"): 1}


def test_a_standby_tells_how_far_it_is_behind() -> None:
    metrics = Metrics()
    report = metrics.standby("profiles")
    report(3, 12)
    report(4, 1)
    report(4, None)
    samples = next(iter(metrics["cdp_standby_lag_records"].collect())).samples
    assert [(sample.labels, sample.value) for sample in samples] == [({"stage": "profiles", "partition": "3"}, 12)]
