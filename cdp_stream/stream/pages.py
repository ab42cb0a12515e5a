"""The worker's pages over HTTP: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever supervises it.

They are served from a thread of their own, so that a process whose loop hangs is still able to say so.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any, Final, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import orjson
from prometheus_client import CollectorRegistry, make_wsgi_app

from cdp_stream.errors import CdpStreamError

LATE_AFTER_S: Final = 10.0
"""How long the loop may go without a turn before the process counts as hung. A long restore turns it many times."""
READY: Final = "ready"
_BEAT_EVERY_S: Final = 0.5


class Partitions(Protocol):
    """What the pages ask of the owners."""

    assigned: bool
    """Has the group given this process its partitions, be it none?"""

    def phases(self) -> Mapping[int, str]:
        """What each partition of this process is doing."""


class Pulse:
    """When the loop turned last, as seen from another thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(_BEAT_EVERY_S)

    def beat(self) -> None:
        """The loop has turned."""
        self._last = self._clock()

    def age_s(self) -> float:
        """Seconds since the last beat."""
        return self._clock() - self._last


class Pages:
    """The WSGI application of one worker process."""

    def __init__(self, registry: CollectorRegistry, stage: str, owners: Partitions, pulse: Pulse) -> None:
        self._metrics = make_wsgi_app(registry)
        self._stage = stage
        self._owners = owners
        self._pulse = pulse

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        match environ["PATH_INFO"]:
            case "/metrics":
                answer: Iterable[bytes] = self._metrics(environ, start_response)
                return answer
            case "/healthz":
                good, body = self.health()
            case "/readyz":
                good, body = self.readiness()
            case _:
                start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
                return [b"here are /metrics, /healthz and /readyz\n"]
        headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        start_response("200 OK" if good else "503 Service Unavailable", headers)
        return [orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)]

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Does the loop turn?"""
        age_s = self._pulse.age_s()
        healthy = age_s < LATE_AFTER_S
        return healthy, {"healthy": healthy, "stage": self._stage, "loop_turned_seconds_ago": round(age_s, 3)}

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Has the group spoken, and is every partition of this process claimed, restored and caught up?"""
        phases = self._owners.phases()
        ready = self.health()[0] and self._owners.assigned and all(phase == READY for phase in phases.values())
        partitions = {str(number): phase for number, phase in sorted(phases.items())}
        return ready, {
            "ready": ready,
            "stage": self._stage,
            "assigned": self._owners.assigned,
            "partitions": partitions,
        }


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is the library's
        """Scrapes and probes are not news."""


def serve(pages: Pages, port: int) -> WSGIServer:
    """Serve the pages on every address of this machine, from a thread, until the process ends.

    Raises CdpStreamError when the port cannot be had.
    """
    try:
        server = make_server("", port, pages, _Server, handler_class=_Silent)
    except OSError as error:
        raise CdpStreamError(
            f"port {port} for metrics, health and readiness cannot be had ({error.strerror}): name another one with "
            "CDP_STREAM_METRICS_PORT, which is stage identity's; stage profiles has the next one"
        ) from error
    threading.Thread(target=server.serve_forever, daemon=True, name="pages").start()
    return server
