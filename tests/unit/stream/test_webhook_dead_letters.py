"""What is kept of a message that a webhook would not take, and what is said of requests that are tried again."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from aiokafka.structs import TopicPartition

from cdp_stream.stream.topics import MESSAGE_BYTES_MAX
from cdp_stream.stream.webhook import Troubles, dead_letter_row
from cdp_stream.stream.webhook_delivery import Answer, Delivery
from cdp_stream.stream.webhook_lanes import Message

REFUSED = Delivery(Answer("refused", "http_400", 400, "no"), 1)


def letter(value: bytes) -> dict[str, object]:
    return dead_letter_row("crm", Message(TopicPartition("dest.crm", 3), 7, b"use_1", value), REFUSED, 0)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b'{"messageId":"m"}', {"payload": {"messageId": "m"}}),
        (b"\xff", {"value_base64": "/w=="}),
        (b"", {"value_base64": ""}),
    ],
)
def test_a_dead_letter_holds_the_message(value: bytes, kept: dict[str, object]) -> None:
    assert {
        "destination": "crm",
        "reason": "http_400",
        "attempts": 1,
        "time": "1970-01-01T00:00:00.000Z",
        "source": {"topic": "dest.crm", "partition": 3, "offset": 7},
        "status": 400,
        "detail": "no",
        **kept,
    } == letter(value)


@pytest.mark.parametrize("value", [b"\xff" * MESSAGE_BYTES_MAX, b'"' + b"x" * (MESSAGE_BYTES_MAX - 2) + b'"'])
def test_a_message_too_large_for_a_dead_letter_is_named_by_its_place(value: bytes) -> None:
    row = letter(value)
    assert MESSAGE_BYTES_MAX == row["size"]
    assert len(orjson.dumps(row)) < 1_000


def test_the_log_says_once_in_a_while_why_requests_are_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "cdp_stream.webhook")
    troubles = Troubles()
    troubles.tell(1.0)
    for _ in range(3):
        troubles.note(Answer("again", "http_503", 503, "words of the receiver"))
    troubles.note(Answer("again", "connection", detail="ClientConnectorCertificateError"))
    troubles.note(Answer("delivered", status=200))
    troubles.tell(2.0)
    troubles.note(Answer("again", "timeout"))
    troubles.tell(3.0)
    troubles.tell(12.0)
    assert [
        "requests that will be tried again: http_503: 3, connection (ClientConnectorCertificateError): 1",
        "requests that will be tried again: timeout: 1",
    ] == [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("X Y=TOKEN", "--header 'X Y': a header's name has letters, digits and signs such as '-', no spaces"),
        ("Content-Length=TOKEN", "--header Content-Length: the connector sets this header itself"),
        ("X-Key=BROKEN", "the value of BROKEN has characters that a header cannot hold"),
        ("X-Key=ABSENT", "the variable ABSENT is not set"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(tmp_path: Path, header: str, said: str) -> None:
    (tmp_path / "topology.yaml").write_text(
        "space: shop\nsources: [{name: web, topic: events}]\ndestinations: [{name: crm, topic: crm.out}]\n"
    )
    environ = {**os.environ, "CDP_STREAM_KAFKA": "localhost:1", "TOKEN": "hush", "BROKEN": "hush\nX-Evil: 1"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cdp_stream",
            "webhook",
            str(tmp_path),
            "crm",
            "--url",
            "http://x/hush",
            "--header",
            header,
        ],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (2, 3)
    assert said in done.stderr
    assert "hush" not in done.stderr
