"""Where things are: broker, security, data folder, ports. Environment variables `CDP_STREAM_…`, nothing else."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cdp_stream.errors import SettingsError

_PREFIX: Final = "CDP_STREAM_"
_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_ADDRESS: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/@,;]+):([0-9]{1,5})")
_PORT_MAX: Final = 65_535
_PREFIX_ALLOWED: Final = re.compile(r"[A-Za-z0-9._-]{0,100}")
_KNOWN: Final = {
    "KAFKA",
    "KAFKA_IMAGE",  # of the broker that tests and demo start
    "KAFKA_CACHE",  # of its jars
    "TOPIC_PREFIX",
    "REPLICATION_FACTOR",
    "DATA_DIR",
    "SECURITY_PROTOCOL",
    "SSL_CAFILE",
    "SSL_CERTFILE",
    "SSL_KEYFILE",
    "SASL_MECHANISM",
    "SASL_USERNAME",
    "SASL_PASSWORD",
    "METRICS_PORT",
    "SESSION_TIMEOUT_S",
    "STEP_EVENTS_MAX",
    "STEP_BYTES_MAX",
    "CLOCK_INTERVAL_MS",
    "CLAIM_RENEW_S",
    "STANDBY",
    "WEBHOOK_URL",
    "WEBHOOK_SECRET",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a process; secrets are not part of its repr."""

    kafka: str
    topic_prefix: str = ""
    replication_factor: int = 1
    data_dir: str = ".cdp-stream/state"
    security_protocol: str = "PLAINTEXT"
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    metrics_port: int = 6066
    """Of stage identity; stage profiles has the next one. 0: none."""
    session_timeout_s: float = 10.0
    step_events_max: int = 2_000
    step_bytes_max: int = 2 * 1024 * 1024
    clock_interval_ms: int = 500
    claim_renew_s: float = 21_600
    """How long a claim is used. The broker forgets a writer's epoch a day after its last record."""
    standby: bool = False
    """Follow the changelogs of partitions that others own, so that one of them can be taken over at once."""
    webhook_url: str | None = field(default=None, repr=False)
    """Of `cdp-stream webhook`; it may hold a token, so it is not shown."""
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Keys that requests to the webhook are signed with."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """The settings in these variables. Raises SettingsError that names the variable and the remedy."""
        given = {
            name.removeprefix(_PREFIX): value for name, value in environ.items() if name.startswith(_PREFIX) and value
        }
        _refuse_unknown(given)
        protocol = _one_of(given, "SECURITY_PROTOCOL", _PROTOCOLS)
        _check_credentials(given, protocol)
        return cls(
            kafka=_addresses(given),
            topic_prefix=_topic_prefix(given),
            replication_factor=_number(given, "REPLICATION_FACTOR", 1, 1, 32_767),
            data_dir=given.get("DATA_DIR", ".cdp-stream/state"),
            security_protocol=protocol,
            ssl_cafile=given.get("SSL_CAFILE"),
            ssl_certfile=given.get("SSL_CERTFILE"),
            ssl_keyfile=given.get("SSL_KEYFILE"),
            sasl_mechanism=_one_of(given, "SASL_MECHANISM", _MECHANISMS),
            sasl_username=given.get("SASL_USERNAME"),
            sasl_password=given.get("SASL_PASSWORD"),
            metrics_port=_number(given, "METRICS_PORT", 6066, 0, 65_534),
            session_timeout_s=_number(given, "SESSION_TIMEOUT_S", 10, 1, 300),
            step_events_max=_number(given, "STEP_EVENTS_MAX", 2_000, 1, 10_000),
            step_bytes_max=_number(given, "STEP_BYTES_MAX", 2 * 1024 * 1024, 1_024, 8 * 1024 * 1024),
            clock_interval_ms=_number(given, "CLOCK_INTERVAL_MS", 500, 50, 60_000),
            claim_renew_s=_number(given, "CLAIM_RENEW_S", 21_600, 1, 43_200),
            standby=_one_of(given, "STANDBY", ("no", "yes")) == "yes",
            webhook_url=given.get("WEBHOOK_URL"),
            webhook_secrets=tuple(given.get("WEBHOOK_SECRET", "").split()),
        )

    def aiokafka_options(self) -> dict[str, Any]:
        """What every client of the broker is given."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.kafka,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = self._ssl_context()
        if self.security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        return options

    def faust_broker(self) -> str:
        """The brokers as Faust wants them."""
        return ";".join(f"kafka://{broker}" for broker in self.kafka.split(","))

    def faust_credentials(self) -> Any:
        """Credentials as Faust wants them, or None."""
        import faust

        if self.security_protocol.startswith("SASL"):
            return faust.SASLCredentials(
                username=self.sasl_username,
                password=self.sasl_password,
                mechanism=self.sasl_mechanism,
                ssl_context=self._ssl_context() if self.security_protocol == "SASL_SSL" else None,
            )
        if self.security_protocol == "SSL":
            return faust.SSLCredentials(context=self._ssl_context())
        return None

    def _ssl_context(self) -> ssl.SSLContext:
        name = "SSL_CAFILE"
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile)
            if self.ssl_certfile is not None:
                name = "SSL_CERTFILE"
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        except OSError as error:
            value = getattr(self, name.lower())
            raise SettingsError(f"{_PREFIX}{name}={value!r}: not a PEM file that can be used: {error}") from None
        return context


def _addresses(given: Mapping[str, str]) -> str:
    if "KAFKA" not in given:
        raise SettingsError(
            "CDP_STREAM_KAFKA is not set: name the brokers, such as localhost:9092, or start one with "
            "`cdp-stream kafka up`"
        )
    brokers = [broker.strip() for broker in given["KAFKA"].split(",")]
    for broker in brokers:
        found = _ADDRESS.fullmatch(broker)
        if found is None or not 1 <= int(found[1]) <= _PORT_MAX:
            raise SettingsError(
                f"CDP_STREAM_KAFKA: {broker!r} is not host:port, with a port from 1 to {_PORT_MAX}; several brokers "
                "are separated by commas, such as one:9092,two:9092"
            )
    return ",".join(brokers)


def _topic_prefix(given: Mapping[str, str]) -> str:
    prefix = given.get("TOPIC_PREFIX", "")
    if not _PREFIX_ALLOWED.fullmatch(prefix):
        raise SettingsError(
            f"CDP_STREAM_TOPIC_PREFIX={prefix!r}: must be at most 100 of the characters that Kafka allows in a topic's "
            "name: letters, digits, '.', '_' and '-'"
        )
    return prefix


def _check_credentials(given: Mapping[str, str], protocol: str) -> None:
    """What the protocol needs is there, and nothing is given that it would silently leave aside."""
    if protocol.startswith("SASL"):
        for name in ("SASL_USERNAME", "SASL_PASSWORD"):
            if name not in given:
                raise SettingsError(f"CDP_STREAM_SECURITY_PROTOCOL={protocol} needs {_PREFIX}{name}, which is not set")
    for family, needed in (("SASL_", protocol.startswith("SASL")), ("SSL_", protocol.endswith("SSL"))):
        unused = sorted(name for name in given if name.startswith(family)) if not needed else []
        if unused:
            uses = " or ".join(name for name in _PROTOCOLS if family.strip("_") in name.split("_"))
            raise SettingsError(
                f"{_PREFIX}{unused[0]} is set, but CDP_STREAM_SECURITY_PROTOCOL={protocol} does not use it; "
                f"{_PREFIX}SECURITY_PROTOCOL must be {uses}"
            )
    if "SSL_KEYFILE" in given and "SSL_CERTFILE" not in given:
        raise SettingsError("CDP_STREAM_SSL_KEYFILE is the key of a certificate: set CDP_STREAM_SSL_CERTFILE too")


def _refuse_unknown(given: Mapping[str, str]) -> None:
    import difflib

    for name in sorted(set(given) - _KNOWN):
        close = difflib.get_close_matches(name, _KNOWN, n=1)
        hint = f"; did you mean {_PREFIX}{close[0]}?" if close else f"; known are {', '.join(sorted(_KNOWN))}"
        raise SettingsError(f"{_PREFIX}{name} is not a setting{hint}")


def _number(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise SettingsError(f"{_PREFIX}{name}={text!r}: must be a whole number from {least} to {most}")
    return value


def _one_of(given: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    value = given.get(name, allowed[0])
    if value not in allowed:
        raise SettingsError(f"{_PREFIX}{name}={value!r}: must be one of {', '.join(allowed)}")
    return value
