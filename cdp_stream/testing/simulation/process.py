"""A process that can die at any action, and the disk that outlives it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from cdp_stream.model.ports import Changes, Store
from cdp_stream.store.memory import MemoryStore
from cdp_stream.store.rocks import RocksStore

_UNDO_MAX = 50
"""How many of the last commits a crash may take back."""


class Killed(BaseException):
    """`kill -9`: no handler of an ordinary error sees it."""


class Process:
    """One life of an owner. Whatever it does to the world is an action, and the world may end it there."""

    def __init__(self, name: str, dies_at: int | None, freezes_at: int | None, freeze_s: float) -> None:
        self.name = name
        self.dies_at = dies_at
        self.freezes_at = freezes_at
        self.freeze_s = freeze_s
        self.actions = 0
        self.dead = False
        self.gone = asyncio.Event()
        self.last = ""
        self._thawed = asyncio.Event()
        self._thawed.set()
        self.on_death: Callable[[], None] | None = None

    def act(self, what: str) -> None:
        """One action; raises Killed if the process dies here or is dead already."""
        if self.dead:
            raise Killed(self.name)
        self.actions += 1
        self.last = what
        if self.actions == self.freezes_at:
            self._thawed.clear()
            asyncio.get_running_loop().call_later(self.freeze_s, self._thawed.set)
        if self.actions == self.dies_at:
            self.die()
            raise Killed(self.name)

    async def step(self, what: str) -> None:
        """An action after which the process may stand still for a while, as in a long pause of its machine."""
        self.act(what)
        await self._thawed.wait()
        if self.dead:
            raise Killed(self.name)

    def die(self) -> None:
        """From here on nothing that the process does has an effect."""
        self.dead = True
        self.gone.set()
        self._thawed.set()
        if self.on_death is not None:
            asyncio.get_running_loop().call_soon(self.on_death)


class Disk:
    """The state folders of one machine: in memory, or real ones below a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.stores: dict[str, MemoryStore] = {}
        self.undo: dict[str, list[dict[bytes, bytes | None]]] = {}
        self.in_use: set[str] = set()
        """Names whose store a process of this machine has or is going to open."""

    def open(self, name: str) -> Store:
        """The store of that name as it was left."""
        if self._folder is not None:
            return RocksStore(self._folder / name)
        return self.stores.setdefault(name, MemoryStore())

    def wipe(self, name: str) -> None:
        """The disk is lost."""
        self.stores.pop(name, None)
        self.undo.pop(name, None)
        if self._folder is not None:
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def take_back(self, name: str, draw: Random) -> int:
        """The last commits had not reached the disk. Returns how many."""
        store, undo = self.stores.get(name), self.undo.get(name, [])
        count = draw.randint(0, len(undo))
        for _ in range(count):
            if store is not None:
                store.commit(undo.pop())
        return count

    def flush(self, name: str) -> None:
        """Nothing that was committed is taken back any more."""
        self.undo.pop(name, None)

    def commit(self, name: str, store: Store, changes: Changes) -> None:
        """Commit, and remember how to take it back."""
        if self._folder is None:
            undo = self.undo.setdefault(name, [])
            undo.append({key: store.get(key) for key in changes})
            del undo[:-_UNDO_MAX]
        store.commit(changes)


class SimulatedStore:
    """A store that dies with its process, before a commit or after it."""

    def __init__(self, process: Process, disk: Disk, name: str, committed: Callable[[Store, Changes], None]) -> None:
        self._process = process
        self._disk = disk
        self._name = name
        self._committed = committed
        self._store = disk.open(name)
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        return self._store.get(key)

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All pairs whose key begins with `prefix`, in byte order of the key, from the key `start` on."""
        return self._store.scan(prefix, start)

    def commit(self, changes: Changes) -> None:
        """Apply all changes or none."""
        self._process.act("before the commit")
        self._disk.commit(self._name, self._store, changes)
        self._committed(self._store, changes)
        self._process.act("after the commit")

    def flush(self) -> None:
        """What was committed is on the disk."""
        self._process.act("flush the store")
        self._store.flush()
        self._disk.flush(self._name)

    def close(self) -> None:
        """Leave the store to the next process."""
        if not self._closed:
            self._closed = True
            self._store.close()
