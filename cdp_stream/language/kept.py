"""What an evaluation leaves behind for the next one of the same profile: never a part of its state."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

PROFILES_MAX: Final = 64
"""For how many profiles one reduction keeps something: those that were asked for last."""
_What = TypeVar("_What")


class Kept(Generic[_What]):
    """Of one reduction, by profile id."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._of: OrderedDict[str, _What] = OrderedDict()

    def take(self, profile_id: str) -> _What | None:
        """What was kept for the profile, if it still is; from now on, nothing."""
        return self._of.pop(profile_id, None)

    def keep(self, profile_id: str, what: _What) -> None:
        """Keep it for the profile, which is the last one that was asked for."""
        self._of[profile_id] = what
        if len(self._of) > PROFILES_MAX:
            self._of.popitem(last=False)
