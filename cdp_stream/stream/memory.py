"""The C library's heap: few arenas, and what was freed goes back to the system."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

_M_ARENA_MAX: Final = -8
_ARENAS_MAX: Final = 2


def share_arenas() -> None:
    """Let threads share two arenas; a no-op where the C library has none, or where the environment says how many.

    Before other threads are there. glibc gives each thread an arena of its own, up to eight a core, and what one of RocksDB's
    threads frees serves no other one: a tenth of all memory at a million profiles.
    """
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        options = getattr(ctypes.CDLL(None), "mallopt", None)
        if options is not None:
            options(_M_ARENA_MAX, _ARENAS_MAX)


def give_back() -> None:
    """Return what was freed to the system, also between what is still held; a no-op where the C library has no way to.

    glibc by itself only cuts its heap at the end. Tables that grow piece by piece leave holes in it, a quarter of
    all memory at two million profiles. It takes some 10 ms a gigabyte, without the interpreter's lock.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
