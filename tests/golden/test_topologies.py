"""Every example topology ends as its `expected.jsonl` says, whatever the partitions, the step size and the store."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson
import pytest

from cdp_stream.cli.topology import load_compiled
from cdp_stream.config.case_plan import find_case_files, load_cases
from cdp_stream.testing.cases import run_case
from cdp_stream.testing.replay import Replay, records_of

TOPOLOGIES = Path(__file__).parents[2] / "topologies"
FOLDERS = sorted(path.parent for path in TOPOLOGIES.glob("*/topology.yaml"))


def ended(folder: Path, partitions: int, step_size: int, state: str | Path) -> list[dict[str, object]]:
    run = Replay(load_compiled(folder), partitions=partitions, step_size=step_size, state=state)
    with (folder / "events.jsonl").open("rb") as lines:
        for _ in run.run(records_of(lines)):
            pass
    profiles = list(run.space.all_profiles())
    members = Counter(key for profile in profiles for key in profile["audiences"])
    result: list[dict[str, object]] = [
        {"topic": name, "records": count} for name, count in sorted(run.digest.counts.items())
    ]
    result += [{"audience": key, "members": count} for key, count in sorted(members.items())]
    result.append({"digest": run.digest.total(profiles)})
    run.space.close()
    return result


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize(
    ("store", "partitions", "step_size"),
    [
        ("memory", 8, 1000),
        ("memory", 1, 1),
        ("memory", 8, 1),
        ("memory", 1, 1000),
        ("memory", 3, 17),
        ("rocks", 8, 1000),
        ("rocks", 1, 50),
    ],
)
def test_a_topology_ends_as_expected(folder: Path, store: str, partitions: int, step_size: int, tmp_path: Path) -> None:
    expected = [orjson.loads(line) for line in (folder / "expected.jsonl").read_bytes().splitlines()]
    state = "memory" if store == "memory" else tmp_path / "state"
    assert expected == ended(folder, partitions, step_size, state)


CASES = [(folder, file) for folder in FOLDERS for file in find_case_files(folder)]


@pytest.mark.parametrize(("folder", "file"), CASES, ids=lambda path: path.stem)
def test_a_topologys_own_tests_hold(folder: Path, file: Path) -> None:
    topology = load_compiled(folder).topology
    failed = [(case.name, run_case(case, topology)) for case in load_cases(file, topology)]
    assert [] == [(name, step) for name, step in failed if step is not None]
