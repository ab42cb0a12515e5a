"""One message to a webhook, against a real HTTP server: what is signed, what is tried again, and what is given up."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hmac
import shutil
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.errors import SettingsError
from cdp_stream.stream import webhook_delivery
from cdp_stream.stream.webhook_delivery import (
    RETRY_AFTER_MAX_S,
    Abandoned,
    Answer,
    Delivery,
    Receiver,
    Sender,
    open_session,
    retry_after_s,
    signature,
    verdict_of,
)
from cdp_stream.stream.webhook_pace import Pace

BODY = b'{"messageId":"personas_1","type":"track"}'
Script = Callable[[web.Request, int], Awaitable[web.StreamResponse]]


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_delivery, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr(webhook_delivery, "BACKOFF_MAX_S", 0.01)


class Heard:
    """What the receiver was sent, and what the connector made of its answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[Answer] = []
        self.delivery: Delivery | None = None


def deliver_to(script: Script, *, closing_after: float | None = None, **settings: Any) -> Heard:
    """Deliver one message to a server that answers by the script: request and its number to response."""
    heard = Heard()

    async def answer(request: web.Request) -> web.StreamResponse:
        heard.requests.append((dict(request.headers), await request.read()))
        return await script(request, len(heard.requests))

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/hook", answer)
        async with TestServer(app) as server, open_session(4) as session:
            receiver = Receiver(url=str(server.make_url("/hook")), **{"retry_for_s": 5.0, **settings})
            sender = Sender(
                session, receiver, Pace(None, time.monotonic), 4, lambda answer, _: heard.answers.append(answer)
            )
            closing = asyncio.Event()
            if closing_after is not None:
                asyncio.get_running_loop().call_later(closing_after, closing.set)
            heard.delivery = await sender.deliver("personas_1", BODY, closing)

    asyncio.run(run())
    return heard


def statuses(*codes: int, **headers: str) -> Script:
    """Answer with these statuses, one after the other, and the last for ever."""

    async def script(_: web.Request, number: int) -> web.Response:
        return web.Response(status=codes[min(number, len(codes)) - 1], headers=headers, text="words")

    return script


def test_a_message_is_posted_as_it_stands_in_the_topic():
    heard = deliver_to(statuses(200), headers={"Authorization": "Bearer t"})
    ((headers, body),) = heard.requests
    assert body == BODY
    assert headers["Content-Type"] == "application/json"
    assert headers["webhook-id"] == "personas_1"
    assert headers["Authorization"] == "Bearer t"
    assert "webhook-signature" not in headers
    assert heard.delivery == Delivery(Answer("delivered", status=200), 1)


def test_each_secret_signs_id_time_and_body():
    raw = b"\x01\x02 bytes"
    coded = "whsec_" + base64.b64encode(raw).decode()
    heard = deliver_to(statuses(200), secrets=("old words", coded))
    ((headers, body),) = heard.requests
    signed = f"personas_1.{headers['webhook-timestamp']}.".encode() + body
    expected = [
        "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode() for secret in (b"old words", raw)
    ]
    assert headers["webhook-signature"].split(" ") == expected
    assert abs(int(headers["webhook-timestamp"]) - time.time_ns() / 1e9) < 60


def test_a_signature_is_that_of_the_open_specification():
    """The example that the specification's own libraries are tested with."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == expected


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again_until_it_is_taken(status: int):
    heard = deliver_to(statuses(status, status, 204))
    assert heard.delivery == Delivery(Answer("delivered", status=204), 3)
    assert [answer.verdict for answer in heard.answers] == ["again", "again", "delivered"]
    assert {body for _, body in heard.requests} == {BODY}


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 410, 413, 422])
def test_a_refusal_is_final(status: int):
    heard = deliver_to(statuses(status, Location="/elsewhere"))
    assert heard.delivery == Delivery(Answer("refused", f"http_{status}", status, "words"), 1)
    assert len(heard.requests) == 1


def test_a_receiver_that_does_not_answer_in_time_is_asked_again():
    async def script(_: web.Request, number: int) -> web.Response:
        await asyncio.sleep(1 if number == 1 else 0)
        return web.Response()

    heard = deliver_to(script, timeout_s=0.1)
    assert [answer.reason for answer in heard.answers] == ["timeout", ""]


def test_a_connection_that_breaks_is_tried_again():
    async def script(request: web.Request, number: int) -> web.Response:
        if number == 1:
            assert request.transport is not None
            request.transport.close()
        return web.Response()

    heard = deliver_to(script)
    assert [answer.reason for answer in heard.answers] == ["connection", ""]


def test_the_words_of_a_broken_connection_do_not_hold_the_url():
    receiver = Receiver(url="http://127.0.0.1:9/secret-path?token=hush", retry_for_s=0.05)

    async def run() -> Delivery:
        async with aiohttp.ClientSession() as session:
            sender = Sender(session, receiver, Pace(None, time.monotonic), 1, lambda *_: None)
            return await sender.deliver("personas_1", BODY, asyncio.Event())

    delivery = asyncio.run(run())
    assert delivery.answer.reason == "connection"
    assert "hush" not in str(delivery)
    assert "secret-path" not in str(delivery) + repr(receiver)


def test_after_the_time_for_retries_the_last_answer_stands():
    heard = deliver_to(statuses(503), retry_for_s=0.1)
    assert heard.delivery is not None
    assert heard.delivery.answer == Answer("again", "http_503", 503, "words")
    assert heard.delivery.attempts == len(heard.requests) > 1


def test_the_time_for_retries_begins_with_the_first_attempt():
    """However long a message has waited for its turn: nothing is given up untried."""
    tried: Counter[str] = Counter()

    async def answer(request: web.Request) -> web.Response:
        tried[request.headers["webhook-id"]] += 1
        return web.Response(status=503 if tried[request.headers["webhook-id"]] == 1 else 200)

    async def run() -> list[Delivery]:
        app = web.Application()
        app.router.add_post("/", answer)
        async with TestServer(app) as server, open_session(4) as session:
            receiver = Receiver(url=str(server.make_url("/")), retry_for_s=0.3)
            sender = Sender(session, receiver, Pace(8, time.monotonic), 4, lambda *_: None)
            return await asyncio.gather(*(sender.deliver(f"m{n}", BODY, asyncio.Event()) for n in range(6)))

    assert {(delivery.answer.verdict, delivery.attempts) for delivery in asyncio.run(run())} == {("delivered", 2)}


def test_pauses_grow_to_a_limit_and_are_drawn(monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []

    def recorded(_: asyncio.Event) -> Callable[[float], Awaitable[None]]:
        async def rest(seconds: float) -> None:
            pauses.append(seconds)

        return rest

    monkeypatch.setattr(webhook_delivery, "_rest", recorded)
    rounds = []
    for _ in range(30):
        pauses.clear()
        deliver_to(statuses(*[503] * 8, 200))
        # Between two attempts there is a pause, and a look at the pace.
        rounds.append(pauses[1::2])
    ceilings = [min(0.01, 0.001 * 2**n) for n in range(8)]
    for attempt, ceiling in enumerate(ceilings):
        drawn = [one[attempt] for one in rounds]
        assert ceiling / 2 < max(drawn) <= ceiling
        assert min(drawn) < ceiling / 2
        assert len(set(drawn)) == len(drawn)


def test_what_an_answer_packs_is_not_unpacked():
    async def script(_: web.Request, __: int) -> web.Response:
        return web.Response(status=400, body=gzip.compress(b"\0" * 50_000_000), headers={"Content-Encoding": "gzip"})

    heard = deliver_to(script)
    assert heard.requests[0][0]["Accept-Encoding"] == "identity"
    assert heard.delivery is not None
    assert heard.delivery.answer.reason == "http_400"
    assert heard.delivery.answer.detail.startswith("\x1f")


def test_a_receiver_without_a_valid_certificate_is_no_receiver(tmp_path: Path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "crt", "-days", "2"]
    subprocess.run([*made, "-subj", "/CN=127.0.0.1"], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    took = []

    async def answer(request: web.Request) -> web.Response:
        took.append(await request.read())
        return web.Response()

    async def run() -> Delivery:
        app = web.Application()
        app.router.add_post("/hush", answer)
        server = TestServer(app, scheme="https")
        await server.start_server(ssl=context)
        try:
            async with open_session(1) as session:
                receiver = Receiver(url=f"https://127.0.0.1:{server.port}/hush?token=hush", retry_for_s=0.05)
                sender = Sender(session, receiver, Pace(None, time.monotonic), 1, lambda *_: None)
                return await sender.deliver("personas_1", BODY, asyncio.Event())
        finally:
            await server.close()

    delivery = asyncio.run(run())
    assert delivery.answer == Answer("again", "connection", detail="ClientConnectorCertificateError")
    assert not took
    assert "hush" not in str(delivery)


def test_a_receiver_that_names_a_pause_gets_it():
    heard = deliver_to(statuses(429, 200, **{"Retry-After": "1"}))
    assert heard.answers[0].retry_after_s == 1
    times = [int(headers["webhook-timestamp"]) for headers, _ in heard.requests]
    assert times[1] > times[0]


def test_closing_lets_a_request_finish_and_begins_no_other():
    async def script(_: web.Request, __: int) -> web.Response:
        await asyncio.sleep(0.3)
        return web.Response()

    heard = deliver_to(script, closing_after=0.1)
    assert heard.delivery is not None
    assert heard.delivery.answer.verdict == "delivered"
    with pytest.raises(Abandoned):
        deliver_to(statuses(503, **{"Retry-After": "60"}), closing_after=0.2)


def test_closing_begins_nothing_that_waited_for_its_turn():
    began = []

    async def answer(request: web.Request) -> web.Response:
        began.append(request.headers["webhook-id"])
        await asyncio.sleep(0.2)
        return web.Response()

    async def run() -> list[Delivery | BaseException]:
        app = web.Application()
        app.router.add_post("/", answer)
        async with TestServer(app) as server, open_session(2) as session:
            sender = Sender(
                session, Receiver(url=str(server.make_url("/"))), Pace(None, time.monotonic), 2, lambda *_: None
            )
            closing = asyncio.Event()
            asyncio.get_running_loop().call_later(0.1, closing.set)
            waiting = (sender.deliver(f"m{n}", BODY, closing) for n in range(20))
            return await asyncio.gather(*waiting, return_exceptions=True)

    ends = asyncio.run(run())
    assert len(began) == 2
    assert [type(end) for end in ends].count(Abandoned) == 18


def test_only_so_many_requests_are_under_way_at_a_time():
    under_way, most = 0, 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return web.Response()

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/", answer)
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            sender = Sender(
                session, Receiver(url=str(server.make_url("/"))), Pace(None, time.monotonic), 3, lambda *_: None
            )
            await asyncio.gather(*(sender.deliver(f"m{n}", BODY, asyncio.Event()) for n in range(20)))

    asyncio.run(run())
    assert most == 3


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("-7", 0),
        ("soon", 0),
        ("", 0),
        ("99999999", RETRY_AFTER_MAX_S),
        ("٣", 0),
    ],
)
def test_a_pause_in_seconds(header: str | None, seconds: float):
    assert retry_after_s(header, 1_000_000.0) == seconds


@given(st.integers(-1_000, 10_000))
def test_a_pause_until_a_date(ahead: int):
    now = 1_750_000_000
    header = format_datetime(datetime.fromtimestamp(now + ahead, UTC), usegmt=True)
    assert retry_after_s(header, float(now)) == min(max(ahead, 0), RETRY_AFTER_MAX_S)


@given(st.text() | st.text(st.sampled_from("MonTueJan 0123456789:,+-GMT")), st.floats(0, 4e9))
def test_whatever_names_a_pause_it_is_bounded(header: str, now_s: float):
    assert 0 <= retry_after_s(header, now_s) <= RETRY_AFTER_MAX_S


@given(st.integers(100, 599))
def test_every_status_has_one_verdict(status: int):
    verdict = verdict_of(status)
    assert (verdict == "delivered") == (status // 100 == 2)
    assert (verdict == "again") == (status // 100 == 5 or status in {408, 425, 429})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "ftp://hush.example/x"}, "must begin with https:// or http:// and name a host, not 'ftp'"),
        ({"url": "hush"}, "must begin with https:// or http://"),
        ({"url": "https://user:hush@crm.example"}, "holds credentials; give them as a header instead"),
        ({"url": "https://crm.example", "secrets": ("whsec_hush!",)}, "does not go on in base64"),
        ({"url": "https://crm.example/hush", "secrets": ("whsec_",)}, "anybody could sign with it"),
    ],
)
def test_a_receiver_that_cannot_be_sent_to_is_refused_without_showing_it(settings: dict[str, Any], words: str):
    with pytest.raises(SettingsError, match=words) as caught:
        Receiver(**settings)
    assert "hush" not in str(caught.value)
