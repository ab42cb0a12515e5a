"""What was freed between what is held goes back to the system."""

from __future__ import annotations

import platform

import psutil
import pytest

from cdp_stream.stream.memory import give_back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no heap to cut")
def test_holes_are_given_back() -> None:
    process = psutil.Process()
    # Below the size from which each block is a mapping of its own; every second one is kept, so the heap's end is held.
    blocks: list[bytes | None] = [bytes(60_000) for _ in range(2_000)]
    for place in range(0, len(blocks), 2):
        blocks[place] = None
    before = process.memory_info().rss
    give_back()
    assert before - process.memory_info().rss > 20_000_000
    assert sum(block is not None for block in blocks) == 1_000
