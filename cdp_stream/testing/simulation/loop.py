"""An event loop in which time is a number: waiting costs nothing, and the same program runs the same way every time."""

from __future__ import annotations

import asyncio
from typing import Any


class Stuck(Exception):
    """Nothing is left to happen, and the run is not over."""


class _NoSelector:
    """Where the loop would wait for sockets, time moves on instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        """Move the time on to the next timer."""
        if timeout is None:
            raise Stuck("every task waits for another one")
        self._loop.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Tasks and timers of asyncio, no input and output, no threads, and a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._selector = _NoSelector(self)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self.now_s

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        """Nobody waits outside."""
