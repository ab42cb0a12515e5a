"""Every reason of a dead letter is explained."""

from __future__ import annotations

from typing import get_args

from cdp_stream.intake.reasons import REASONS
from cdp_stream.model.event import DeadLetterReason


def test_each_reason_has_a_meaning_and_a_remedy() -> None:
    assert list(get_args(DeadLetterReason)) == list(REASONS)
    assert all(found.meaning.endswith(".") and found.remedy.endswith(".") for found in REASONS.values())
