"""A worker's part in a backup: on request it makes checkpoints of the stores that it has open.

A request is a file in the state folder, `.backup-<id>/<stage>-<partition>.wanted`; whoever may write there may ask. The
process that has that store open puts a checkpoint beside the file, and then `.done`. `backup.py` is the asking side.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

from cdp_stream.errors import StateError
from cdp_stream.store.rocks import RocksStore, wipe

REQUESTS: Final = ".backup-"
WANTED: Final = ".wanted"
DONE: Final = ".done"
FAILED: Final = ".failed"
_LOOK_EVERY_S: Final = 0.5
log = logging.getLogger("cdp_stream.checkpoints")


class OpenStores:
    """The stores that this process has open, by the names of their folders."""

    def __init__(self) -> None:
        self._opened: dict[str, RocksStore] = {}

    def open(self, folder: Path) -> RocksStore:
        """Open or create a store. Raises StateError as `RocksStore` does."""
        store = self._opened[folder.name] = RocksStore(folder)
        return store

    def get(self, name: str) -> RocksStore | None:
        """The open store of a folder."""
        store = self._opened.get(name)
        return store if store is not None and store.is_open else None


async def answer_requests(stores: OpenStores, state: Path) -> None:
    """Make the checkpoints that are asked for in the folder `state`, until cancelled.

    In the loop itself and not beside it: so each lies between two commits of its store.
    """
    while True:
        answer_all(stores, state)
        await asyncio.sleep(_LOOK_EVERY_S)


def answer_all(stores: OpenStores, state: Path) -> None:
    """Make every checkpoint that is asked for now."""
    for wanted in state.glob(f"{REQUESTS}*/*{WANTED}"):
        answer(stores, wanted)


def answer(stores: OpenStores, wanted: Path) -> None:
    """Make one checkpoint, if the store is open here; its failure is the asking side's matter, and not the worker's."""
    name = wanted.name.removesuffix(WANTED)
    store = stores.get(name)
    if store is None:
        return
    began = time.perf_counter()
    to = wanted.with_name(name)
    try:
        store.checkpoint(to)
        wanted.rename(wanted.with_name(name + DONE))
        log.info("%s: checkpoint for a backup in %.0f ms", name, 1000 * (time.perf_counter() - began))
    except (StateError, OSError) as error:
        log.warning("%s: no checkpoint for a backup: %s", name, error)
        wipe(to)
        if wanted.exists():
            wanted.rename(wanted.with_name(name + FAILED))
