"""Backups: consistent while a worker writes, whole after a crash, and put back only where they belong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from cdp_stream.errors import CdpStreamError, StateError, UsageError
from cdp_stream.model.time import DAY_MS
from cdp_stream.stages.identity import BARRIER_KEY, IdentityBarrier
from cdp_stream.stages.profile_shapes import ProfileBarrier
from cdp_stream.stages.state_format import STATE_FORMAT
from cdp_stream.store.rocks import RocksStore
from cdp_stream.stream.backup import MANIFEST, back_up, read_manifest
from cdp_stream.stream.put_back import put_back
from cdp_stream.stream.topics import TopicNames

NAMES = TopicNames("shop", "p.", 2, (), ())

# A process that has stores open and writes without end; both keys of a step in one batch.
HOLDER = """
import asyncio, sys
from pathlib import Path
from cdp_stream.stream.checkpoints import OpenStores, answer_requests
state, answers = Path(sys.argv[1]), sys.argv[2] == "answers"
stores = OpenStores()
opened = [stores.open(state / name) for name in sys.argv[3:]]
async def main():
    asking = asyncio.create_task(answer_requests(stores, state)) if answers else None
    for step in range(10**9):
        for store in opened:
            store.commit({b"a": str(step).encode(), b"b": str(step).encode(), b"k%d" % step: b"x" * 200})
        if step == 100:
            print("at work", flush=True)
        await asyncio.sleep(0.0005)
asyncio.run(main())
"""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def silent(_total: int) -> Callable[[int], object]:
    return lambda _more: None


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A graph and one partition of two; closed."""
    state = tmp_path / "data" / "p.shop"
    identity = IdentityBarrier(next_offset=7, changelog=70, topology_version="v", state_format=STATE_FORMAT)
    profiles = ProfileBarrier(next_offset=5, changelog=50, state_format=STATE_FORMAT)
    for name, barrier in (("identity-0", identity), ("profiles-1", profiles)):
        store = RocksStore(state / name)
        store.commit({BARRIER_KEY: msgspec.msgpack.encode(barrier), b"key": name.encode()})
        store.close()
    return state


Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold(state: Path) -> Iterator[Hold]:
    """Starts a process that works on the state, and ends it."""
    started: list[subprocess.Popen[str]] = []

    def begin(*names: str, answers: bool = True) -> subprocess.Popen[str]:
        arguments = [str(state), "answers" if answers else "silent", *names]
        process = subprocess.Popen([sys.executable, "-c", HOLDER, *arguments], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def pairs(folder: Path) -> dict[bytes, bytes]:
    store = RocksStore(folder, read_only=True)
    try:
        return dict(store.scan(b""))
    finally:
        store.close()


def files(state: Path) -> dict[str, int]:
    return {str(file.relative_to(state)): file.stat().st_mtime_ns for file in state.rglob("*") if file.is_file()}


def test_state_at_rest_is_copied_and_left_as_it_is(state: Path, tmp_path: Path) -> None:
    before, told = files(state), []
    manifest = back_up(state, tmp_path / "backup", NAMES, now_ms(), 5, lambda total: told.append(total) or told.append)
    assert before == files(state)
    assert [("identity", 0, 7, 70, "v"), ("profiles", 1, 5, 50, None)] == [
        (copy.stage, copy.partition, copy.input_offset, copy.changelog_offset, copy.topology_version)
        for copy in manifest.copies
    ]
    assert told[0] == sum(told[1:]) == manifest.size
    assert manifest == read_manifest(tmp_path / "backup")
    assert not list(state.glob(".backup-*"))
    elsewhere = tmp_path / "other" / "p.shop"
    put_back(tmp_path / "backup", elsewhere, NAMES, now_ms(), silent)
    assert {name: pairs(state / name) for name in ("identity-0", "profiles-1")} == {
        name: pairs(elsewhere / name) for name in ("identity-0", "profiles-1")
    }


def test_a_worker_that_writes_goes_on_and_the_copy_lies_between_two_steps(
    state: Path, hold: Hold, tmp_path: Path
) -> None:
    worker = hold("identity-0")
    back_up(state, tmp_path / "backup", NAMES, now_ms(), 20, silent)
    assert worker.poll() is None
    found = pairs(tmp_path / "backup" / "identity-0")
    step = int(found[b"a"])
    assert found[b"a"] == found[b"b"]
    assert {b"k%d" % number for number in range(step + 1)} == {
        key for key in found if key.startswith(b"k") and key != b"key"
    }
    assert not list(state.glob(".backup-*"))


def test_the_copy_of_what_a_killed_worker_left_lies_between_two_steps(state: Path, hold: Hold, tmp_path: Path) -> None:
    """The last steps had not reached the disk; whoever puts it back takes them from the changelog."""
    worker = hold("profiles-1")
    # By the checkpoint all steps up to it are on the disk.
    back_up(state, tmp_path / "before", NAMES, now_ms(), 20, silent)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    manifest = back_up(state, tmp_path / "backup", NAMES, now_ms(), 5, silent)
    found = pairs(tmp_path / "backup" / "profiles-1")
    assert found == pairs(state / "profiles-1")
    assert int(found[b"a"]) >= int(pairs(tmp_path / "before" / "profiles-1")[b"a"]) > 0
    step = int(found[b"a"])
    assert found[b"b"] == found[b"a"]
    assert {b"k%d" % number for number in range(step + 1)} == found.keys() - {b"a", b"b", b"key", BARRIER_KEY}
    assert [(copy.stage, copy.changelog_offset) for copy in manifest.copies] == [("identity", 70), ("profiles", 50)]


def test_a_process_that_gives_no_copy_is_named(state: Path, hold: Hold, tmp_path: Path) -> None:
    hold("profiles-1", answers=False)
    with pytest.raises(StateError, match=r"the process that has profiles-1 open gave no copy within 1 s"):
        back_up(state, tmp_path / "backup", NAMES, now_ms(), 1, silent)
    assert not list(state.glob(".backup-*"))
    with pytest.raises(StateError, match=r"manifest\.json: No such file"):
        put_back(tmp_path / "backup", tmp_path / "other" / "p.shop", NAMES, now_ms(), silent)


def test_a_backup_needs_state_and_a_folder_of_its_own(state: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no state here"):
        back_up(tmp_path / "nothing", tmp_path / "backup", NAMES, now_ms(), 5, silent)
    with pytest.raises(UsageError, match="not empty"):
        back_up(state, state, NAMES, now_ms(), 5, silent)


def test_state_that_is_too_old_for_the_changelog_is_left_out(state: Path, tmp_path: Path) -> None:
    manifest = back_up(state, tmp_path / "backup", NAMES, now_ms() + 4 * DAY_MS, 5, silent)
    assert ((), ("identity-0", "profiles-1")) == (manifest.copies, manifest.left_out)


def edited(backup: Path, **changes: object) -> None:
    manifest = json.loads((backup / MANIFEST).read_text())
    manifest.update(changes)
    (backup / MANIFEST).write_text(json.dumps(manifest))


def later_format(backup: Path) -> None:
    copies = json.loads((backup / MANIFEST).read_text())["copies"]
    copies[1]["state_format"] = STATE_FORMAT + 1
    edited(backup, copies=copies)


def outside(backup: Path) -> None:
    copies = json.loads((backup / MANIFEST).read_text())["copies"]
    copies[0]["files"][0]["name"] = "../x"
    edited(backup, copies=copies)


def damage(backup: Path) -> None:
    file = next((backup / "identity-0").glob("*.sst"))
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))


@pytest.mark.parametrize(
    ("change", "days", "words"),
    [
        (lambda backup: edited(backup, space="other"), 0, "its space is 'other', the topology's 'shop'"),
        (lambda backup: edited(backup, topic_prefix=""), 0, "its topic prefix is '', the topology's 'p.'"),
        (lambda backup: edited(backup, partitions=8), 0, "its partitions is 8, the topology's 2"),
        (lambda backup: edited(backup, backup_format=2, engine="9.9"), 0, r"backup_format is 2.*with version 9\.9"),
        (later_format, 0, "written by a later version of cdp-stream"),
        (outside, 0, "not the manifest of a backup"),
        (damage, 0, r"\.sst: is damaged"),
        (lambda backup: (backup / "profiles-1" / "CURRENT").unlink(), 0, "CURRENT: is missing"),
        (lambda backup: None, 4, "was last written 4 days ago; the changelog has forgotten"),
    ],
)
def test_what_may_not_be_put_back_changes_nothing(
    change: Callable[[Path], None], days: int, words: str, state: Path, tmp_path: Path
) -> None:
    back_up(state, tmp_path / "backup", NAMES, now_ms(), 5, silent)
    change(tmp_path / "backup")
    before = files(state)
    with pytest.raises(CdpStreamError, match=words):
        put_back(tmp_path / "backup", state, NAMES, now_ms() + days * DAY_MS, silent, replace=True)
    assert before == files(state)


def test_state_that_is_there_is_replaced_only_on_demand_and_never_under_a_worker(
    state: Path, hold: Hold, tmp_path: Path
) -> None:
    back_up(state, tmp_path / "backup", NAMES, now_ms(), 5, silent)
    was = pairs(state / "profiles-1")
    worker = hold("profiles-1")
    with pytest.raises(StateError, match="a worker has profiles-1 open"):
        put_back(tmp_path / "backup", state, NAMES, now_ms(), silent, replace=True)
    worker.kill()
    worker.wait()
    with pytest.raises(UsageError, match="holds state already"):
        put_back(tmp_path / "backup", state, NAMES, now_ms(), silent)
    # What a restore leaves behind that was killed at its worst.
    (state.parent / f".restoring-{state.name}" / "identity-0").mkdir(parents=True)
    put_back(tmp_path / "backup", state, NAMES, now_ms(), silent, replace=True)
    assert was == pairs(state / "profiles-1")
    assert [state.name] == [path.name for path in state.parent.iterdir()]
