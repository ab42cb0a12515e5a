"""The command line: one command a file, exit codes in one place."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from cdp_stream import __version__
from cdp_stream.errors import CdpStreamError

_COMMANDS = {
    "validate": ("cdp_stream.cli.validate", "validate"),
    "schema": ("cdp_stream.cli.schema", "schema"),
    "fmt": ("cdp_stream.cli.fmt", "fmt"),
    "test": ("cdp_stream.cli.test", "test"),
    "replay": ("cdp_stream.cli.replay", "replay"),
    "worker": ("cdp_stream.cli.worker", "worker"),
    "apply": ("cdp_stream.cli.apply", "apply"),
    "accept-loss": ("cdp_stream.cli.accept_loss", "accept_loss"),
    "source-reset": ("cdp_stream.cli.source_reset", "source_reset"),
    "status": ("cdp_stream.cli.status", "status"),
    "tail": ("cdp_stream.cli.tail", "tail"),
    "dead-letters": ("cdp_stream.cli.dead_letters", "dead_letters"),
    "resync": ("cdp_stream.cli.resync", "resync"),
    "backup": ("cdp_stream.cli.backup", "backup"),
    "restore": ("cdp_stream.cli.restore", "restore"),
    "webhook": ("cdp_stream.cli.webhook", "webhook"),
    "inspect": ("cdp_stream.cli.inspect", "inspect_profile"),
    "kafka": ("cdp_stream.cli.kafka", "kafka"),
    "demo": ("cdp_stream.cli.demo", "demo"),
    "simulate": ("cdp_stream.cli.simulate", "simulate_command"),
    "check-state": ("cdp_stream.cli.check_state", "check_state"),
    "metrics": ("cdp_stream.cli.metrics", "metrics"),
}


class _Lazy(click.Group):
    """Imports a command when it is asked for, so that `--help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Names, in the order of a first use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        """The command, or None."""
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Suggest the nearest command for an unknown one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0] if args else "", _COMMANDS, n=1)
            if close:
                error.message += f" Did you mean {close[0]!r}?"
            raise


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cdp-stream")
def cli() -> None:
    """A streaming identity-graph processor for customer data.

    \b
    Try it without a broker:
      cdp-stream replay topologies/ecommerce --explain
    On Kafka:
      cdp-stream kafka up
      CDP_STREAM_KAFKA=localhost:9092 cdp-stream worker topologies/ecommerce

    Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 invalid topology or settings.
    """


def main() -> None:
    """Entry point: errors of ours become one clear message and their exit code."""
    try:
        code = cli(standalone_mode=False)
        if isinstance(code, int):
            # Outside its standalone mode click returns the code of an Exit instead of raising it.
            sys.exit(code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.Abort:
        sys.exit(130)
    except CdpStreamError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        # Known by its name: the client is imported by those commands only that need a broker.
        if type(error).__module__ != "aiokafka.errors":
            raise
        click.echo(
            f"CDP_STREAM_KAFKA={os.environ.get('CDP_STREAM_KAFKA')}: the broker could not be used: {error}", err=True
        )
        sys.exit(1)
