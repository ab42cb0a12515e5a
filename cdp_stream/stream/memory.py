"""The C library's heap: few arenas, and what was freed goes back to the system."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

_M_ARENA_MAX: Final = -8
_ARENAS_MAX: Final = 2
_GROWN: Final = 1.1


def share_arenas() -> None:
    """Let threads share two arenas; a no-op where the C library has none, or where the environment says how many.

    Before other threads are there. glibc gives each thread an arena of its own, up to eight a core, and what one of RocksDB's
    threads frees serves no other one: a tenth of all memory at a million profiles.
    """
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        options = getattr(ctypes.CDLL(None), "mallopt", None)
        if options is not None:
            options(_M_ARENA_MAX, _ARENAS_MAX)


class GiveBack:
    """Returns what was freed to the system, also between what is still held, each time that the process has grown by a tenth.

    glibc by itself only cuts its heap at the end. Tables that grow piece by piece leave holes in it, a quarter of
    all memory at two million profiles. It takes some 10 ms a gigabyte, without the interpreter's lock but with the heap's, so whoever
    wants memory meanwhile waits.
    """

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        self._left = 0

    def __call__(self) -> None:
        """Look, and give back if it is time; a no-op where the C library has no way to."""
        if self._trim is not None and _resident_pages() > self._left * _GROWN:
            self._trim(0)
            self._left = _resident_pages()


def _resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])
