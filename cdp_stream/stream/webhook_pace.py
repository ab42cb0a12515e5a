"""How fast a receiver is sent to: evenly spaced, and not before it wants more."""

from __future__ import annotations

from collections.abc import Callable


class Pace:
    """Turns in time. `rate_per_second` holds for the whole destination; `share` is the part of it that is ours.

    Several connectors of one destination divide its partitions, and the rate with them: without a word to one another
    they never send faster than it, together.
    """

    def __init__(self, rate_per_second: float | None, clock: Callable[[], float]) -> None:
        """`clock`: seconds, never backwards."""
        self._rate = rate_per_second
        self._clock = clock
        self._next = 0.0
        self._held_until = 0.0
        self.share = 1.0

    def reserve(self) -> float:
        """Take the next turn; returns how many seconds away it is."""
        now = self._clock()
        turn = max(now, self._next, self._held_until)
        if self._rate is not None and self.share > 0:
            self._next = turn + 1 / (self._rate * self.share)
        return turn - now

    def hold(self, seconds: float) -> None:
        """No turn for so long: the receiver said so."""
        self._held_until = max(self._held_until, self._clock() + seconds)

    def is_held(self) -> bool:
        """Has the receiver asked for a pause that is not over? A turn taken before must be taken anew."""
        return self._clock() < self._held_until
