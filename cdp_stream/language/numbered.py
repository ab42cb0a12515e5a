"""Rows by number: a list that mostly grows at its end and shrinks at its front, followed from one evaluation to the next."""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter
from typing import Any, Final

Row = list[Any]
_TIME: Final = itemgetter(0)


class Numbered:
    """The rows as they were last seen. A row keeps its number as long as it is there, whatever comes and goes around it."""

    __slots__ = ("first", "rows")

    def __init__(self) -> None:
        """No rows; the first that comes has the number 0."""
        self.first = 0
        self.rows: list[Row] = []

    @property
    def end(self) -> int:
        """The number that the next row at the end will have."""
        return self.first + len(self.rows)

    def follow(self, rows: list[Row]) -> bool:
        """Take in the rows as they are now; False if they are not the former ones, some fewer in front and more behind.

        Rows are never changed and never taken out of the middle. So where the first and the last of those that are left
        are as far apart as before, nothing has come between them.
        """
        before = self.rows
        if rows is before:
            return True
        if not rows or not before:
            self.first += len(before)
            self.rows = rows
            return True
        gone = bisect_left(before, rows[0][0], key=_TIME)
        while gone < len(before) and before[gone] is not rows[0]:
            if before[gone][0] != rows[0][0]:
                return False
            gone += 1
        left = len(before) - gone
        if not left or len(rows) < left or rows[left - 1] is not before[-1]:
            return False
        self.first += gone
        self.rows = rows
        return True
