"""What was freed between what is held goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import psutil
import pytest

from cdp_stream.stream.memory import GiveBack


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no heap to cut")
def test_holes_are_given_back_where_the_process_has_grown() -> None:
    process = psutil.Process()
    give_back = GiveBack()
    give_back()
    # Below the size from which each block is a mapping of its own; every second one is kept, so the heap's end is held.
    blocks: list[bytes | None] = [bytes(60_000) for _ in range(6_000)]
    for place in range(0, len(blocks), 2):
        blocks[place] = None
    before = process.memory_info().rss
    give_back()
    assert before - process.memory_info().rss > 100_000_000
    for place in range(1, len(blocks), 8):
        blocks[place] = None
    before = process.memory_info().rss
    give_back()
    assert abs(before - process.memory_info().rss) < 1_000_000, "it has not grown since"
    assert sum(block is not None for block in blocks) == 2_250


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no arenas")
def test_threads_share_two_arenas() -> None:
    # In a process of its own: what holds of arenas holds from then on.
    script = """
import ctypes, threading
from cdp_stream.stream.memory import share_arenas
share_arenas()
libc = ctypes.CDLL(None)
allocated = threading.Barrier(8)
def allocate():
    libc.malloc(100)
    allocated.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = libc.malloc_info.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, out)
libc.fclose(out)
"""
    told = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert 1 <= told.count("<heap nr=") <= 2
