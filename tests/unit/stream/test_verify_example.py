"""The code in the documentation that verifies a signature does."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path
from typing import Any

from cdp_stream.stream.webhook_delivery import signed_headers

PAGE = (Path(__file__).parents[3] / "docs" / "destinations.md").read_text(encoding="utf-8")


def test_the_documented_check_takes_what_is_signed_and_nothing_else():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    shown: dict[str, Any] = {}
    exec(code, shown)
    secrets = (*("whsec_" + base64.b64encode(raw).decode() for raw in (b"old", b"new")), "plain words")
    now = time.time_ns() // 1_000_000_000
    headers = signed_headers(secrets, "personas_1", now, b"{}")
    assert [shown["is_ours"](secret, headers, b"{}") for secret in secrets] == [True, True, True]
    assert not shown["is_ours"](secrets[0], headers, b"{ }")
    assert not shown["is_ours"]("whsec_AAAA", headers, b"{}")
    assert not shown["is_ours"](secrets[0], headers | {"webhook-id": "personas_2"}, b"{}")
    old = signed_headers(secrets, "personas_1", now - 3_600, b"{}")
    assert not shown["is_ours"](secrets[0], old, b"{}")
    ahead = signed_headers(secrets, "personas_1", now + 3_600, b"{}")
    assert not shown["is_ours"](secrets[0], ahead, b"{}")
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        for forged in ("", "x", "-1", "v1,", "é", "9" * 400, "²"):
            assert not shown["is_ours"](secrets[0], headers | {name: forged}, b"{}")
        assert not shown["is_ours"](secrets[0], {one: headers[one] for one in headers if one != name}, b"{}")
