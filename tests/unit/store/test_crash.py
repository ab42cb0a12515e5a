"""What a store holds after its process was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from cdp_stream.store.rocks import RocksStore

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


def test_what_was_closed_is_on_the_disk_and_what_was_flushed_is(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "state")
    store.commit({b"key": b"1"})
    store.close()
    store.close()
    store = RocksStore(tmp_path / "state")
    assert store.get(b"key") == b"1"
    store.commit({b"key": b"2"})
    # Another process sees what is on the disk, and no more.
    assert on_disk(tmp_path / "state") == b"1"
    store.flush()
    assert on_disk(tmp_path / "state") == b"2"
    store.close()


def on_disk(folder: Path) -> bytes | None:
    store = RocksStore(folder, read_only=True)
    try:
        return store.get(b"key")
    finally:
        store.close()


def test_a_checkpoint_holds_every_commit(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "state")
    store.commit({b"key": b"value"})
    store.checkpoint(tmp_path / "copy")
    assert on_disk(tmp_path / "copy") == b"value"
    store.close()
