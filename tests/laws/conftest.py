"""The laws' streams are short: what is kept of an evaluation for the next one is kept from the first event on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cdp_stream.language import blocks, ranks, verdicts


@pytest.fixture(autouse=True, scope="module")
def _kept_from_the_first_event() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdicts, "KEPT_FROM", 0)
        patch.setattr(ranks, "KEPT_FROM", 0)
        patch.setattr(blocks, "KEPT_FROM", 4)
        patch.setattr(blocks, "_LEAF", 2)
        yield
