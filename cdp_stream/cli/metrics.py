"""`cdp-stream metrics`: the table of metrics, as documentation."""

from __future__ import annotations

from pathlib import Path

import click

from cdp_stream.metrics import metrics_markdown


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file instead of standard output.")
def metrics(out: Path | None) -> None:
    """Print every metric that a worker serves on /metrics, with its labels and meaning."""
    if out is None:
        click.echo(metrics_markdown(), nl=False)
    else:
        out.write_text(metrics_markdown(), encoding="utf-8")
