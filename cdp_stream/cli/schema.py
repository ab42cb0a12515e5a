"""`cdp-stream schema`: what a topology.yaml may hold, for editors and for people."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the JSON Schema to this file.")
@click.option(
    "--docs", type=click.Path(path_type=Path, dir_okay=False), help="Write the page of all keys to this file."
)
def schema(out: Path | None, docs: Path | None) -> None:
    """Print the JSON Schema of topology.yaml, or write it, or write the page that describes all keys."""
    from cdp_stream.config.schema import json_schema_text, topology_markdown

    if out is not None:
        out.write_text(json_schema_text(), encoding="utf-8")
    if docs is not None:
        docs.write_text(topology_markdown(), encoding="utf-8")
    if out is None and docs is None:
        click.echo(json_schema_text(), nl=False)
