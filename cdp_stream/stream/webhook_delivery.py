"""One message to a webhook: signed, sent, tried again until it is taken, refused or too old.

Signatures follow the open "Standard Webhooks" specification (standardwebhooks.com), so that receivers verify them with
a library that exists for their language: `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,<base64>` over
`<id>.<timestamp>.<body>` with HMAC-SHA256. Which answers are final and how long to try follow the public pages
"connections/integration_error_codes" and "connections/destinations".
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Final, Literal

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, wait_random_exponential
from yarl import URL

from cdp_stream import __version__
from cdp_stream.errors import SettingsError
from cdp_stream.stream.webhook_pace import Pace

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what a secret begins with, not one
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 60.0
RETRY_AFTER_MAX_S: Final = 3_600.0
"""A receiver may ask for a longer pause; it is asked again after this."""
DETAIL_BYTES_MAX: Final = 1_000
"""How much of an answer's body a dead letter quotes."""
_RETRYABLE: Final = frozenset({408, 425, 429})

Verdict = Literal["delivered", "again", "refused"]


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where messages go, and how long it may take. What is secret is not part of its repr."""

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Each signs; two of them while a receiver changes from one to the other."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 5.0
    retry_for_s: float = 4 * 3_600.0

    def __post_init__(self) -> None:
        """Refuse what cannot be sent to. The messages quote nothing of a URL but its scheme: it may hold a token."""
        url = URL(self.url)
        if url.scheme not in {"http", "https"} or not url.host:
            raise SettingsError(
                f"the webhook's URL must begin with https:// or http:// and name a host, not {url.scheme!r}"
            )
        if url.user or url.password:
            raise SettingsError("the webhook's URL holds credentials; give them as a header instead")
        for secret in self.secrets:
            _secret_bytes(secret)

    @property
    def host(self) -> str:
        """The part of the URL that may be shown."""
        return str(URL(self.url).host)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt came to. `reason`: `http_503`, `timeout` or `connection`; `detail`: the answer's first words."""

    verdict: Verdict
    reason: str = ""
    status: int | None = None
    detail: str = ""
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the last attempt ended, and how many there were."""

    answer: Answer
    attempts: int


class Abandoned(Exception):
    """The connector is closing: the message was not delivered, and will be by whoever comes next."""


def open_session(parallel: int) -> aiohttp.ClientSession:
    """Connections to a receiver: no cookies, and answers as they are, since unpacking them could take any room."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=parallel),
        headers={"User-Agent": f"cdp-stream/{__version__}", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


class Sender:
    """Sends messages to one receiver, `parallel` at a time and no faster than the pace allows."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        receiver: Receiver,
        pace: Pace,
        parallel: int,
        observe: Callable[[Answer, float], None],
    ) -> None:
        """`observe` is told every attempt's answer and how many seconds it took."""
        self._session = session
        self._receiver = receiver
        self._pace = pace
        self._slots = asyncio.Semaphore(parallel)
        self._observe = observe
        self._backoff = wait_random_exponential(multiplier=BACKOFF_FIRST_S, max=BACKOFF_MAX_S)

    async def deliver(self, message_id: str, body: bytes, closing: asyncio.Event) -> Delivery:
        """Send until the receiver takes it, refuses it for good, or the time for retries is over.

        That time begins with the first attempt, however long the message has waited for its turn. Raises Abandoned once
        `closing` is set; a request that is under way is finished first.
        """
        first: float | None = None

        async def attempt() -> Answer:
            nonlocal first
            async with self._slots:
                await self._turn(closing)
                first = time.monotonic() if first is None else first
                return await self._send(message_id, body)

        def is_late(_: RetryCallState) -> bool:
            assert first is not None
            return time.monotonic() - first >= self._receiver.retry_for_s

        retrying = AsyncRetrying(
            retry=retry_if_result(lambda answer: answer.verdict == "again"),
            wait=self._wait,
            stop=is_late,
            sleep=_rest(closing),
            retry_error_callback=_last_answer,
        )
        answer: Answer = await retrying(attempt)
        return Delivery(answer, retrying.statistics["attempt_number"])

    def _wait(self, state: RetryCallState) -> float:
        answer = _last_answer(state)
        return max(float(self._backoff(state)), answer.retry_after_s)

    async def _turn(self, closing: asyncio.Event) -> None:
        rest = _rest(closing)
        while True:
            await rest(self._pace.reserve())
            if not self._pace.is_held():
                return

    async def _send(self, message_id: str, body: bytes) -> Answer:
        began = time.monotonic()
        answer = await self._post(message_id, body)
        if answer.retry_after_s:
            self._pace.hold(answer.retry_after_s)
        self._observe(answer, time.monotonic() - began)
        return answer

    async def _post(self, message_id: str, body: bytes) -> Answer:
        receiver = self._receiver
        headers = {**receiver.headers, **signed_headers(receiver.secrets, message_id, int(_clock_s()), body)}
        try:
            async with self._session.post(
                receiver.url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=receiver.timeout_s),
            ) as response:
                status = response.status
                verdict = verdict_of(status)
                if verdict == "delivered":
                    return Answer("delivered", status=status)
                wait_s = retry_after_s(response.headers.get("Retry-After"), _clock_s()) if verdict == "again" else 0.0
                return Answer(verdict, f"http_{status}", status, await _first_words(response), wait_s)
        except TimeoutError:
            return Answer("again", "timeout")
        except (aiohttp.ClientError, OSError) as error:
            # Not its text: it quotes the URL.
            return Answer("again", "connection", detail=type(error).__name__)


async def _first_words(response: aiohttp.ClientResponse) -> str:
    # The status stands, whether its explanation arrives or not.
    try:
        words = await response.content.read(DETAIL_BYTES_MAX)
    except (TimeoutError, aiohttp.ClientError, OSError):
        return ""
    return words.decode("utf-8", "replace")


def verdict_of(status: int) -> Verdict:
    """Whether an HTTP status says taken, try again, or never. Redirects are not followed: they are refusals."""
    if 200 <= status < 300:
        return "delivered"
    return "again" if status in _RETRYABLE or status >= 500 else "refused"


def retry_after_s(header: str | None, now_s: float) -> float:
    """Seconds that a `Retry-After` header (a number or a date) asks for, at most RETRY_AFTER_MAX_S; 0 for none."""
    if header is None:
        return 0.0
    text = header.strip()
    if text.isascii() and text.isdigit():
        asked = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        asked = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now_s
    return min(max(asked, 0.0), RETRY_AFTER_MAX_S)


def signed_headers(secrets: tuple[str, ...], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a message: what it is, its id, when it was sent (Unix seconds), and a signature of each secret."""
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
    }
    if secrets:
        headers["webhook-signature"] = " ".join(signature(secret, message_id, timestamp, body) for secret in secrets)
    return headers


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the HMAC-SHA256 of `<id>.<timestamp>.<body>` in base64.

    A secret that begins with `whsec_` goes on in base64; any other is used as the text it is.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_secret_bytes(secret), signed, sha256)).decode()


def _secret_bytes(secret: str) -> bytes:
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        decoded = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise SettingsError(f"a webhook secret begins with {SECRET_PREFIX} and does not go on in base64") from None
    if not decoded:
        raise SettingsError(f"a webhook secret is {SECRET_PREFIX} and nothing else: anybody could sign with it")
    return decoded


def _rest(closing: asyncio.Event) -> Callable[[float], Awaitable[None]]:
    async def rest(seconds: float) -> None:
        if seconds > 0 and not closing.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), seconds)
        if closing.is_set():
            raise Abandoned

    return rest


def _last_answer(state: RetryCallState) -> Answer:
    assert state.outcome is not None
    answer: Answer = state.outcome.result()
    return answer


def _clock_s() -> float:
    return datetime.now(UTC).timestamp()  # noqa: TID251 - a receiver checks how old a signature is by its own clock
