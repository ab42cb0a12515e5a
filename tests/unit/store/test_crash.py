"""What a store holds after its process was killed, and what it says of that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cdp_stream.model.time import HOUR_MS
from cdp_stream.store import rocks
from cdp_stream.store.rocks import RocksStore, written_ms

_COMMITS = """
import itertools, sys
from pathlib import Path
from cdp_stream.store.rocks import RocksStore

store = RocksStore(Path(sys.argv[1]))
for number in itertools.count(int(sys.argv[2])):
    text = b"%d" % number
    store.commit({b"last": text, **{b"%d/%d" % (number % 50, key): text * 20 for key in range(500)}})
    print(number, flush=True)
"""


def test_of_a_killed_process_the_first_commits_are_there_and_the_others_are_not(tmp_path: Path) -> None:
    folder, begun, kept = tmp_path / "state", 0, []
    for commits in (300, 40, 170):
        command = [sys.executable, "-c", _COMMITS, str(folder), str(begun)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        done = [int(process.stdout.readline()) for _ in range(commits)]
        process.send_signal(signal.SIGKILL)
        done += [int(line) for line in process.stdout.read().splitlines()]
        process.stdout.close()
        process.wait()
        store = RocksStore(folder)
        last = int(store.get(b"last") or -1)
        # At most one commit was made and not told any more.
        assert last <= done[-1] + 1
        expected: dict[bytes, bytes] = {}
        for number in range(last + 1):
            text = b"%d" % number
            expected |= {b"%d/%d" % (number % 50, key): text * 20 for key in range(500)}
            expected[b"last"] = text
        assert dict(store.scan(b"")) == expected
        store.close()
        begun = last + 1
        kept.append(last)
    assert kept[0] > 0, "nothing ever reached the disk"


def test_what_was_closed_is_on_the_disk(tmp_path: Path) -> None:
    before = time.time_ns() // 1_000_000
    store = RocksStore(tmp_path / "state")
    store.commit({b"key": b"value"})
    store.close()
    assert before <= (written_ms(tmp_path / "state") or 0) <= time.time_ns() // 1_000_000
    store = RocksStore(tmp_path / "state", read_only=True)
    assert store.get(b"key") == b"value"
    store.close()


def test_a_checkpoint_holds_every_commit(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "state")
    store.commit({b"key": b"value"})
    store.checkpoint(tmp_path / "copy")
    copy = RocksStore(tmp_path / "copy", read_only=True)
    assert copy.get(b"key") == b"value"
    copy.close()
    store.close()
    assert written_ms(tmp_path / "copy") is not None


def test_a_start_makes_no_state_younger(tmp_path: Path) -> None:
    """Looking at it moves no time, and neither does opening it, whatever files are made anew meanwhile."""
    assert written_ms(tmp_path / "state") is None
    RocksStore(tmp_path / "state").close()
    then = time.time_ns() // 1_000_000 - 5 * HOUR_MS
    os.utime(tmp_path / "state" / "flushed", ns=(then * 1_000_000, then * 1_000_000))
    for read_only in (True, False):
        store = RocksStore(tmp_path / "state", read_only=read_only)
        assert written_ms(tmp_path / "state") == then
    store.close()
    assert (written_ms(tmp_path / "state") or 0) > then


def test_the_state_of_a_version_without_the_file_is_as_old_as_its_last_write(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    RocksStore(folder).close()
    (folder / "flushed").unlink()
    then = time.time_ns() // 1_000_000 - 5 * HOUR_MS
    for file in folder.iterdir():
        os.utime(file, ns=(then * 1_000_000, then * 1_000_000))
    assert written_ms(folder) == then
    store = RocksStore(folder)
    assert written_ms(folder) == then
    store.close()


def test_what_is_old_goes_to_the_disk_beside_the_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RocksStore(tmp_path / "state")
    began = written_ms(tmp_path / "state")
    assert began is not None
    store.commit({b"key": b"1"})
    assert written_ms(tmp_path / "state") == began
    monkeypatch.setattr(rocks, "_FLUSH_EVERY_NS", 50_000_000)
    time.sleep(0.1)
    store.commit({b"key": b"2"})
    until = time.monotonic() + 10
    while written_ms(tmp_path / "state") == began and time.monotonic() < until:
        time.sleep(0.01)
        store.commit({b"other": b"3"})
    assert (written_ms(tmp_path / "state") or 0) > began
    # Another process sees what is on the disk, and no more.
    seen = RocksStore(tmp_path / "state", read_only=True)
    assert seen.get(b"key") == b"2"
    seen.close()
    store.close()
