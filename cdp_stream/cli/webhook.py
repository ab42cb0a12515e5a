"""`cdp-stream webhook`: a destination's messages to an HTTP receiver."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from cdp_stream.cli.logs import LEVELS, log_to_stderr
from cdp_stream.cli.topology import load_compiled
from cdp_stream.config.destination import Destination
from cdp_stream.config.explain import nearest
from cdp_stream.config.topology import Topology
from cdp_stream.errors import SettingsError, UsageError
from cdp_stream.model.time import SECOND_MS, parse_duration

_HEADERS_OF_OURS = (
    "content-type",
    "content-length",
    "transfer-encoding",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@click.command()
@click.argument("topology", type=click.Path(path_type=Path))
@click.argument("destination")
@click.option("--url", help="Where to POST; by default CDP_STREAM_WEBHOOK_URL, which no list of processes shows.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VARIABLE",
    help="A header whose value is that of an environment variable. May be given several times.",
)
@click.option("--timeout", default="5s", show_default=True, help="How long the receiver may take to answer.")
@click.option("--retry-for", default="4h", show_default=True, help="How long a message is tried again.")
@click.option("--parallel", type=int, default=32, show_default=True, help="Requests at a time.")
@click.option("--metrics-port", type=click.IntRange(0, 65_535), default=6068, show_default=True, help="0: no metrics.")
@click.option("--log-level", type=LEVELS, default="INFO", show_default=True)
def webhook(  # noqa: PLR0913, PLR0917 - click hands every option over as an argument
    topology: Path,
    destination: str,
    url: str | None,
    headers: tuple[str, ...],
    timeout: str,
    retry_for: str,
    parallel: int,
    metrics_port: int,
    log_level: str,
) -> None:
    """POST the messages of TOPOLOGY's DESTINATION to a URL until SIGTERM or Ctrl-C.

    Requests are signed with the keys in CDP_STREAM_WEBHOOK_SECRET (separated by spaces, while a receiver changes from
    one to the other). A message that is refused for good, or not taken in time, goes to the topic
    <space>.webhook.<destination>.dead-letters. Any number of connectors may run for one destination; they share its
    partitions and its rate.

    \b
    Examples:
      cdp-stream webhook topologies/ecommerce crm --url https://crm.example/hook
      cdp-stream webhook topologies/ecommerce crm --header Authorization=CRM_TOKEN
    """
    from cdp_stream.stream.settings import Settings
    from cdp_stream.stream.topics import TopicNames
    from cdp_stream.stream.webhook import Connector, run_webhook
    from cdp_stream.stream.webhook_delivery import Receiver

    compiled = load_compiled(topology)
    settings = Settings.from_environ(os.environ)
    chosen = _destination(compiled.topology, destination)
    target = url or settings.webhook_url
    if target is None:
        raise UsageError("where to? Give --url, or set CDP_STREAM_WEBHOOK_URL")
    receiver = Receiver(
        url=target,
        secrets=settings.webhook_secrets,
        headers=dict(_header(given) for given in headers),
        timeout_s=_seconds("--timeout", timeout),
        retry_for_s=_seconds("--retry-for", retry_for),
    )
    names = TopicNames.of(compiled.topology, settings)
    connector = Connector(settings, names, chosen, receiver, parallel, metrics_port)
    log_to_stderr(f"webhook {chosen.name}", log_level)
    run_webhook(connector)


def _destination(topology: Topology, name: str) -> Destination:
    known = {destination.name: destination for destination in topology.destinations}
    if name not in known:
        hint = nearest(name, list(known)) or f"there are: {', '.join(known) or 'none'}"
        raise UsageError(f"the topology has no destination {name!r}; {hint}")
    return known[name]


def _header(given: str) -> tuple[str, str]:
    name, separator, variable = given.partition("=")
    if not separator or not name or not variable:
        raise UsageError("--header needs a name and a variable, such as Authorization=CRM_TOKEN")
    if not _HEADER_NAME.fullmatch(name):
        raise UsageError(f"--header {name!r}: a header's name has letters, digits and signs such as '-', no spaces")
    if name.lower() in _HEADERS_OF_OURS:
        raise UsageError(f"--header {name}: the connector sets this header itself")
    value = os.environ.get(variable)
    if value is None:
        raise SettingsError(f"--header {name}: the variable {variable} is not set")
    if not value.isprintable():
        raise SettingsError(f"--header {name}: the value of {variable} has characters that a header cannot hold")
    return name, value


def _seconds(option: str, text: str) -> float:
    try:
        seconds = parse_duration(text) / SECOND_MS
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    if seconds <= 0:
        raise UsageError(f"{option} must be more than nothing")
    return seconds
