"""The store on disk: RocksDB, one folder per stage partition, one atomic WriteBatch per step."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict, WriteBatch

from cdp_stream.errors import StateError

_BLOCK_CACHE_BYTES = 64 * 1024 * 1024
_MEMTABLE_BYTES = 32 * 1024 * 1024


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(_MEMTABLE_BYTES)
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_max_background_jobs(2)
    # A stalled write would freeze the heartbeats too, because a write holds the interpreter lock.
    options.set_level_zero_slowdown_writes_trigger(40)
    options.set_level_zero_stop_writes_trigger(80)
    options.set_keep_log_file_num(2)
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(10, False)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_block_cache(Cache(_BLOCK_CACHE_BYTES))
    options.set_block_based_table_factory(blocks)
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(0.1)
    return options


class RocksStore:
    """`model.ports.Store` in a folder. One process at a time may open it for writing."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or create. Raises StateError when the folder is in use or not a RocksDB."""
        self.path = path
        if not read_only:
            path.mkdir(parents=True, exist_ok=True)
        access = AccessType.read_only() if read_only else AccessType.read_write()
        try:
            self._db = Rdict(str(path), options=_options(), access_type=access)
        except Exception as error:
            raise StateError(
                f"{path}: the state cannot be opened ({error}); is another worker running on this folder? "
                f"Stop it, or name another folder with CDP_STREAM_DATA_DIR"
            ) from error

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        value: bytes | None = self._db.get(key)
        return value

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All pairs whose key begins with `prefix`, in byte order of the key, from the key `start` on."""
        pairs: Any = self._db.items(from_key=max(prefix, start))
        for key, value in pairs:
            if not key.startswith(prefix):
                return
            yield key, value

    def commit(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Apply all changes in one WriteBatch; None deletes."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        self._db.write(batch)

    def close(self) -> None:
        """Flush and release the lock."""
        self._db.close()


def wipe(path: Path) -> None:
    """Remove a store's folder and all that is in it."""
    shutil.rmtree(path, ignore_errors=True)
