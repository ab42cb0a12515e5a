"""`cdp-stream fmt`: every definition of a topology as its canonical text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cdp_stream.errors import Problem, TopologyError, UsageError

if TYPE_CHECKING:
    from cdp_stream.language.nodes import Definition


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if a file would be changed.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read one definition from standard input and print it.")
@click.option(
    "--to",
    type=click.Choice(["text", "yaml"]),
    default="text",
    show_default=True,
    help="With --stdin: the form to print. The input may be of either.",
)
def fmt(paths: tuple[Path, ...], check: bool, from_stdin: bool, to: str) -> None:
    """Write the definitions of PATHS as their canonical text; everything else, comments too, stays as it is.

    A path is a topology.yaml, its folder, or a folder of such folders. Definitions with variables in them, and those in
    YAML (`where`), stay as they are. Prints the files that were changed. With a definition that is not valid, its file
    is left alone and the exit code is 3.

    \b
    Examples:
      cdp-stream fmt topologies/ecommerce
      cdp-stream fmt topologies --check
      echo "event('Order').count()>=2" | cdp-stream fmt --stdin --to yaml
    """
    if from_stdin == bool(paths):
        raise UsageError("give files or folders, or --stdin")
    if from_stdin:
        click.echo(_one(click.get_text_stream("stdin").read(), to), nl=False)
        return
    changed = 0
    failed: TopologyError | None = None
    for file in [found for path in paths for found in _files(path)]:
        try:
            before, after = _formatted(file)
        except TopologyError as error:
            click.echo(str(error), err=True)
            failed = error
            continue
        if before == after:
            continue
        changed += 1
        click.echo(f"would change {file}" if check else f"changed {file}")
        if not check:
            file.write_bytes(after)
    if failed is not None:
        raise SystemExit(failed.exit_code)
    if check and changed:
        raise SystemExit(1)


def _files(path: Path) -> list[Path]:
    from cdp_stream.config.load import TOPOLOGY_FILE

    if not path.is_dir():
        return [path]
    found = [path / TOPOLOGY_FILE] if (path / TOPOLOGY_FILE).exists() else sorted(path.glob(f"*/{TOPOLOGY_FILE}"))
    if not found:
        raise UsageError(f"{path}: holds no {TOPOLOGY_FILE}, and neither do the folders in it")
    return found


def _formatted(file: Path) -> tuple[bytes, bytes]:
    """The file as it is and as it should be. Raises TopologyError for a file or a definition that is not valid."""
    from cdp_stream.config.load import Loader, read_yaml
    from cdp_stream.config.rewrite import rewrite_definitions
    from cdp_stream.language.parse import parse_definition
    from cdp_stream.language.printer import format_definition

    read_yaml(file, Loader, ("give a topology's folder or its topology.yaml", "space"))
    problems: list[Problem] = []

    def spell(path: str, text: str) -> str:
        definition = parse_definition(text, path)
        if isinstance(definition, Problem):
            problems.append(definition)
            return text
        return format_definition(definition)

    before = file.read_bytes()
    text = before.decode("utf-8-sig")
    after = rewrite_definitions(text, spell)
    if problems:
        raise TopologyError(str(file), problems)
    assert rewrite_definitions(after, spell) == after, file
    return before, before[: len(before) - len(text.encode())] + after.encode()


def _one(text: str, to: str) -> str:
    import yaml

    from cdp_stream.language.form_printer import form_of
    from cdp_stream.language.printer import format_definition

    definition = _read(text)
    if to == "text":
        return format_definition(definition) + "\n"
    return yaml.safe_dump(form_of(definition), sort_keys=False, allow_unicode=True, width=120)


def _read(text: str) -> Definition:
    """A definition in either form; a YAML form is a mapping."""
    import yaml
    from pydantic import ValidationError

    from cdp_stream.config.explain import explain
    from cdp_stream.config.form import Form
    from cdp_stream.language.forms import read_form
    from cdp_stream.language.parse import parse_definition

    try:
        plain = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        plain = None
    if not isinstance(plain, dict):
        definition = parse_definition(text, "")
    else:
        try:
            definition = read_form(Form.model_validate(plain), "")
        except ValidationError as error:
            raise TopologyError("standard input", explain(error, Form)) from None
    if isinstance(definition, Problem):
        raise TopologyError("standard input", [definition])
    return definition
