"""The store on disk: RocksDB, one folder per stage partition, one atomic WriteBatch per step.

It keeps no log of its own, for the changelog is one: after a crash the last commits may be missing, all from one on, and
the next start takes them from the changelog (docs/adr/0020-the-changelog-is-the-log.md).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rocksdict import AccessType, BlockBasedOptions, Cache, Checkpoint, Options, Rdict, WriteBatch, WriteOptions

from cdp_stream.errors import StateError
from cdp_stream.model.time import Instant

_BLOCK_CACHE_BYTES = 32 * 1024 * 1024
_MEMTABLE_BYTES = 8 * 1024 * 1024
"""What the nearer caches of a processor hold: where keys have no order, four times as much makes each three times as dear."""


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(_MEMTABLE_BYTES)
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_max_background_jobs(2)
    # In bytes as often as with RocksDB's own four files of 32 MB.
    options.set_level_zero_file_num_compaction_trigger(16)
    # A stalled write stands in the way of every step behind it.
    options.set_level_zero_slowdown_writes_trigger(80)
    options.set_level_zero_stop_writes_trigger(160)
    options.set_keep_log_file_num(2)
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(10, False)
    # Filters and indices are held as long as their files are open, about 1.5 bytes a key. In the cache, the one filter of a
    # large file would fit no shard of it, so that every look-up would read it anew: 150 microseconds instead of 9.
    blocks.set_cache_index_and_filter_blocks(False)
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
        self.is_open = False
        self._writing = threading.Lock()
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
        if not read_only:
            options = WriteOptions()
            options.disable_wal = True  # type: ignore[assignment, method-assign] # an attribute in truth
            self._db.set_write_options(options)
        self.is_open = True

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
        """Apply all changes in one WriteBatch; None deletes. In any thread: the write itself lets others have the interpreter.

        Raises StateError where the store was closed meanwhile.
        """
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        with self._writing:
            if not self.is_open:
                raise StateError(f"{self.path}: the state was closed before a step was stored")
            self._db.write(batch)

    def flush(self) -> None:
        """Write what was committed to the disk, and wait for it: some tens of milliseconds."""
        with self._writing:
            self._db.flush()

    def checkpoint(self, to: Path) -> None:
        """The state as it is between two commits in a folder of its own, which must not exist.

        Files that never change are linked where `to` is on the same disk, so it takes milliseconds. Raises StateError.
        """
        try:
            with self._writing:
                Checkpoint(self._db).create_checkpoint(str(to))
        except Exception as error:
            raise StateError(f"{to}: no checkpoint of {self.path} could be made: {error}") from error

    def close(self) -> None:
        """Flush and release the lock, once what is being written is there."""
        with self._writing:
            if self.is_open:
                self.is_open = False
                self._db.close()


def files_written_ms(path: Path) -> Instant | None:
    """When the files of a store were last written; None where there are none. Whoever opens it writes some of them."""
    if not path.is_dir():
        return None
    return max((changed // 1_000_000 for _, changed in _files(path).values()), default=None)


def is_in_use(path: Path) -> bool:
    """Has another process opened the store in this folder for writing? Never ask for one that this process has open:
    the system would take the asking process's lock away.
    """
    try:
        with (path / "LOCK").open("r+b") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def copy_at_rest(path: Path, to: Path) -> None:
    """A copy of a store that nobody has open, in a folder that must not exist; `path` is left exactly as it is.

    Raises StateError when somebody opens it meanwhile.
    """
    before = _files(path)
    try:
        quiet = not is_in_use(path)
        to.mkdir()
        for name in before if quiet else ():
            if name.endswith(".sst"):
                os.link(path / name, to / name)
            else:
                shutil.copy2(path / name, to / name)
    except FileNotFoundError:
        quiet = False
    if not quiet or is_in_use(path) or _files(path) != before:
        wipe(to)
        raise StateError(f"{path}: the state was opened by a worker while it was copied; try again")


def _files(path: Path) -> dict[str, tuple[int, int]]:
    """The files that hold a store, with size and time of the last write; not its lock, and not its diary."""
    found = {}
    for file in os.scandir(path):
        if file.name != "LOCK" and not file.name.startswith("LOG"):
            with contextlib.suppress(FileNotFoundError):  # the store removes files at any time
                stat = file.stat()
                found[file.name] = (stat.st_size, stat.st_mtime_ns)
    return found


def wipe(path: Path) -> None:
    """Remove a store's folder and all that is in it."""
    shutil.rmtree(path, ignore_errors=True)
