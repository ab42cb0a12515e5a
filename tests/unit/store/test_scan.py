"""Both stores answer a scan alike, whatever was written, deleted and scanned before."""

from __future__ import annotations

from pathlib import Path
from random import Random

from cdp_stream.store.memory import MemoryStore
from cdp_stream.store.rocks import RocksStore

_ONE, _OTHER = b"d" + b"1" * 31, b"d" + b"2" * 31
_KEYS = [
    *(b"b", b"da", b"daa", b"db", b"p", b"p\x00", b"p\xfe", b"q1", b"q2"),
    *(_ONE, _ONE + b"\x00", _ONE + b"\x01\x02", _ONE + b"\xff", _OTHER + b"\x01"),
]


def test_memory_scans_as_rocksdb_does(tmp_path: Path) -> None:
    draw = Random(5)
    memory, rocks = MemoryStore(), RocksStore(tmp_path / "state")
    for _ in range(400):
        changes = {key: draw.choice((None, b"1", b"2")) for key in draw.sample(_KEYS, draw.randint(1, 5))}
        memory.commit(changes)
        rocks.commit(changes)
        prefix, start = (
            draw.choice((b"", b"d", b"p", b"da", b"x", _ONE, _OTHER, _ONE + b"\x01")),
            draw.choice((b"", *_KEYS)),
        )
        assert list(rocks.scan(prefix, start)) == list(memory.scan(prefix, start)), (prefix, start)
    assert 0 < len(list(memory.scan(b"")))
    rocks.close()
