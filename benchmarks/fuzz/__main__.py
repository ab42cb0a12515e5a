"""Fuzzes intake and stages (`records`), the query language (`definitions`) or the compiled core (`changes`), by way of atheris.

    pip install atheris && PYTHONPATH=benchmarks python -m fuzz records --count 10000000
    make fuzz RECORDS=10000000 DEFINITIONS=100000 CHANGES=1000000

What the core decides must equal what the rooms in Python decide, in `records` and in `changes`.

Inputs that reach new code are kept in the corpus folder and are where the next ones come from. An exception that nobody
expects, an input that takes longer than 30 s, or memory beyond 1.5 GB ends the run with the input in a file.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import orjson

with atheris.instrument_imports(include=["cdp_stream.intake", "cdp_stream.identity", "cdp_stream.language"]):
    from fuzz import targets

ROOT = Path(__file__).parents[2]
TOPOLOGY = ROOT / "topologies" / "ecommerce"
INPUT_BYTES_MAX = 4_096
INPUT_SECONDS_MAX = 30
MEMORY_MB_MAX = 1_500
SAID_EVERY_S = 30.0
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**63, 2**64, -(2**63) - 1, 1e308, 0.1, "", "0", "-", "00-0", "anonymous", "\x00", "\ud7ff",
    "x" * 501, "1e400", "2026-01-01T00:00:00Z", "2026-13-01", [], {}, [[]], {"": {}}, "ios", "users", "none", "email",
)  # fmt: skip
KEYS = (
    "type", "event", "userId", "anonymousId", "groupId", "previousId", "messageId", "traits", "properties", "context",
    "email", "timestamp", "originalTimestamp", "sentAt", "receivedAt", "integrations", "externalIds", "device", "id",
    "token", "advertisingId", "adTrackingEnabled", "collection", "encoding", "Personas", "Braze", "braze_id",
    "Google Analytics", "clientId", "crossDomainId", "loyalty_id", "loyaltyId", "revenue", "category", "name",
    "time", "external_ids", "collection", "profile_id", "message_id", "price", "product", "plan", "renewal",
)  # fmt: skip
PAID = {"revenue": 12.5, "price": "7", "product": "hat", "category": "hats"}
CHANGES: list[Any] = [
    {
        "collection": "users", "profile_id": f"{number % 3}", "message_id": f"m{number}", "time": number * 1_000, "name": name,
        "properties": PAID, "traits": {"plan": "pro", "renewal": "2026-01-02T00:00:00Z"}, "type": "user_id", "external_ids": ["u1"],
    }
    if name
    else None
    for number, name in enumerate(["Product Viewed", "Product Added", None, "Order Completed"] * 3)
]  # fmt: skip


def changed(value: Any, draw: random.Random, depth: int = 0) -> Any:
    """The JSON value with one thing in it changed."""
    if depth < 5 and isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        match draw.randrange(6):
            case 0:
                return {name: inner for name, inner in value.items() if name != key}
            case 1:
                return {**value, draw.choice(KEYS): draw.choice(VALUES)}
            case 2:
                return {**value, draw.choice(KEYS): value[key]}
            case _:
                return {**value, key: changed(value[key], draw, depth + 1)}
    if depth < 5 and isinstance(value, list) and value and draw.random() < 0.8:
        place = draw.randrange(len(value))
        return [*value[:place], changed(value[place], draw, depth + 1), *value[place : place + draw.randrange(2)]]
    return draw.choice(VALUES) if draw.random() < 0.7 else [value]


def mutate_record(data: bytes, most: int, seed: int) -> bytes:
    """Seven in eight mutations know JSON, the others know bytes alone."""
    draw = random.Random(seed)
    if seed % 8:
        try:
            wire = orjson.loads(data)
            for _ in range(draw.randint(1, 3)):
                wire = changed(wire, draw)
            raw: bytes = orjson.dumps(wire)
        except (ValueError, TypeError):
            return bytes(atheris.Mutate(data, most))
        if len(raw) <= most:
            return raw
    return bytes(atheris.Mutate(data, most))


def seeds_of(target: str) -> list[bytes]:
    """Where mutation begins: the example's events, or every definition in the example and in the documentation."""
    if target == "records":
        lines = (TOPOLOGY / "events.jsonl").read_bytes().splitlines()
        return [*lines[::50], b'{"type":"alias","userId":"u","previousId":"p"}', b"[" * 200, b"\xff", b"{}"]
    if target == "changes":
        return [orjson.dumps(CHANGES[start : start + 4]) for start in range(len(CHANGES))]
    page = (ROOT / "docs" / "query-language.md").read_text() + (TOPOLOGY / "topology.yaml").read_text()
    return [text.encode() for text in re.findall(r"(?:event|trait)\([^\n`|]+", page)]


def words_of(target: str) -> list[str]:
    """Words that mutation may put in anywhere."""
    if target != "definitions":
        return [f'"{key}":' for key in KEYS] + ["null", "true", "1e999", "\\ud800", "{", "[", "]", "}"]
    grammar = (ROOT / "docs" / "query-language.md").read_text()
    return sorted({*re.findall(r'"([a-z_]{3,}|[<>=!.()]{1,2})"', grammar), "'k'", "days", "AND", "NOT", "parent:", "$"})


def run(target: str, count: int, corpus: Path) -> None:
    """Fuzz until `count` inputs are done. Never returns: libFuzzer ends the process."""
    made = {
        "records": lambda: targets.Records(TOPOLOGY),
        "definitions": targets.Definitions,
        "changes": targets.Changes,
    }
    tested: Any = made[target]()
    corpus.mkdir(parents=True, exist_ok=True)
    for number, raw in enumerate(seeds_of(target)):
        (corpus / f"seed-{number}").write_bytes(raw[:INPUT_BYTES_MAX])
    words = corpus.parent / f"{target}.dict"
    words.write_text(
        "\n".join('"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"' for word in words_of(target))
    )
    began = said = time.monotonic()
    first_mb = 0.0

    def one(data: bytes) -> None:
        nonlocal said, first_mb
        tested(data)
        if tested.count == 50_000:
            first_mb = resident_mb()
        if time.monotonic() - said > SAID_EVERY_S or tested.count == count:
            said = time.monotonic()
            print(
                f"{tested.count} {target} in {said - began:.0f} s, resident {resident_mb():.0f} MB "
                f"(after 50,000: {first_mb:.0f}), peak {peak_mb():.0f} MB, kept {len(list(corpus.iterdir()))}: "
                f"{dict(tested.outcomes.most_common())}",
                flush=True,
            )

    options = [
        f"-atheris_runs={count}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MB_MAX}",
        f"-dict={words}",
        f"-artifact_prefix={corpus.parent}/found-",
        "-print_final_stats=1",
        "-verbosity=0",
        "-seed=1",
    ]
    mutator: dict[str, Callable[..., bytes]] = {} if target == "definitions" else {"custom_mutator": mutate_record}
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, **mutator)
    atheris.Fuzz()


def resident_mb() -> float:
    """What the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak_mb() -> float:
    """The most it ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Read the arguments and fuzz."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("target", choices=["records", "definitions", "changes"])
    parser.add_argument("--count", type=int, default=100_000, help="how many inputs (default: 100000)")
    parser.add_argument("--corpus", type=Path, help="folder in which inputs that reached new code are kept")
    given = parser.parse_args()
    run(given.target, given.count, given.corpus or Path(tempfile.mkdtemp(prefix="fuzz-")) / "corpus")


if __name__ == "__main__":
    main()
