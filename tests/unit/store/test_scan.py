"""Both stores answer a scan alike, whatever was written, deleted and scanned before."""

from __future__ import annotations

from pathlib import Path
from random import Random

from cdp_stream.store.memory import MemoryStore
from cdp_stream.store.rocks import RocksStore

_KEYS = [bytes(key) for key in (b"b", b"da", b"daa", b"db", b"p", b"p\x00", b"p\xfe", b"q1", b"q2")]


def test_memory_scans_as_rocksdb_does(tmp_path: Path) -> None:
    draw = Random(5)
    memory, rocks = MemoryStore(), RocksStore(tmp_path / "state")
    for _ in range(200):
        changes = {key: draw.choice((None, b"1", b"2")) for key in draw.sample(_KEYS, draw.randint(1, 4))}
        memory.commit(changes)
        rocks.commit(changes)
        prefix, start = draw.choice((b"", b"d", b"p", b"da", b"x")), draw.choice((b"", *_KEYS))
        assert list(rocks.scan(prefix, start)) == list(memory.scan(prefix, start)), (prefix, start)
    assert 0 < len(list(memory.scan(b"")))
    rocks.close()
