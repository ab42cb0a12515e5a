"""What a checker says: counts to print, and what is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_SAID_MAX = 5
"""How many examples of one kind of finding are told."""


@dataclass
class Verdict:
    """Counts to print, and what is wrong; nothing wrong: an empty list."""

    counts: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    _said: Counter[str] = field(default_factory=Counter)

    def find(self, kind: str, detail: str) -> None:
        """Something is wrong."""
        self._said[kind] += 1
        self.counts[f"WRONG {kind}"] = self._said[kind]
        if self._said[kind] <= _SAID_MAX:
            self.findings.append(f"{kind}: {detail}")
