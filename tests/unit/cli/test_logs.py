"""What a command that runs on says on stderr, and what it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SAID = """
import logging
from aiokafka.errors import NotLeaderForPartitionError, TopicAuthorizationFailedError
from cdp_stream.cli.logs import log_to_stderr

log_to_stderr("identity", "{level}")
fetcher = logging.getLogger("aiokafka.consumer.fetcher")
fetcher.error("Failed fetch offsets from %s: %s", 1, NotLeaderForPartitionError("t/0"))
fetcher.error("Failed fetch offsets from %s: %s", 1, TopicAuthorizationFailedError("t"))
fetcher.warning("something else")
logging.getLogger("faust").info("of no interest")
logging.getLogger("cdp_stream.worker").info("started")
"""


@pytest.mark.parametrize(("level", "lines"), [("info", 3), ("ERROR", 1)])
def test_trouble_that_the_client_gets_over_by_itself_is_no_news(level: str, lines: int) -> None:
    script = _SAID.format(level=level)
    said = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, check=True).stderr
    assert len(said.splitlines()) == lines
    assert "identity ERROR aiokafka.consumer.fetcher: Failed fetch offsets from 1: [Error 29]" in said
    assert "NotLeader" not in said
    assert "of no interest" not in said
    assert ("identity INFO cdp_stream.worker: started" in said) == (level == "info")
