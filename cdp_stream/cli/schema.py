"""`cdp-stream schema`: what a topology.yaml and its tests may hold, for editors and for people."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--of",
    "what",
    type=click.Choice(["topology", "tests"]),
    default="topology",
    show_default=True,
    help="topology.yaml, or the files of its tests.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the JSON Schema to this file.")
@click.option(
    "--docs", type=click.Path(path_type=Path, dir_okay=False), help="Write the page of all keys to this file."
)
def schema(what: str, out: Path | None, docs: Path | None) -> None:
    """Print the JSON Schema of topology.yaml or tests/*.yaml, or write it, or write the page of all keys.

    \b
    Examples:
      cdp-stream schema --out topologies/topology.schema.json
      cdp-stream schema --of tests --docs docs/config-tests.md
    """
    from cdp_stream.config.cases_page import TESTS_PAGE
    from cdp_stream.config.schema import TOPOLOGY_PAGE

    page = TESTS_PAGE if what == "tests" else TOPOLOGY_PAGE
    if out is not None:
        out.write_text(page.json_schema_text(), encoding="utf-8")
    if docs is not None:
        docs.write_text(page.markdown(), encoding="utf-8")
    if out is None and docs is None:
        click.echo(page.json_schema_text(), nl=False)
