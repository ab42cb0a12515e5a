"""The C library's heap: few arenas, and what was freed goes back to the system."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import Final

_M_ARENA_MAX: Final = -8
_ARENAS_MAX: Final = 2
_GROWN: Final = 1.1
_GROWN_BYTES: Final = 128 * 1024 * 1024


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
    """Returns what was freed to the system, also between what is still held, each time that the process has grown by a tenth and
    by 128 MB.

    glibc by itself only cuts its heap at the end. Tables that grow piece by piece leave holes in it, a quarter of
    all memory at two million profiles. It takes some 10 ms a gigabyte, without the interpreter's lock but with the heap's, so whoever
    wants memory meanwhile waits.
    """

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        self._left = _resident() if self._trim is not None else 0

    def __call__(self) -> None:
        """Look, and give back if it is time; a no-op where the C library has no way to."""
        if self._trim is not None and _resident() > max(self._left * _GROWN, self._left + _GROWN_BYTES):
            self._trim(0)
            self._left = _resident()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
