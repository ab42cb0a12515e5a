"""Every exception of the project.

    CdpStreamError
    ├── UsageError            wrong arguments of a command                       exit code 2
    ├── TopologyError         a topology that cannot be used, with its problems  exit code 3
    ├── SettingsError         an environment variable that cannot be used       exit code 3
    ├── StateError            a state folder that cannot be used as it is       exit code 1
    ├── LogContradiction      the log is not the one the state was made from    exit code 1
    ├── Fenced                another worker has taken the partition over       exit code 1
    ├── BrokerUnavailable     no broker, or not the one that was asked for      exit code 1
    └── StartAgain            an owner needs other topics: it claims anew       never shown

Bad data is never an exception: it becomes a `DeadLetter` (bad data is a value, a bad world is an exception,
bad code is a crash).
"""

from __future__ import annotations

from dataclasses import dataclass


class CdpStreamError(Exception):
    """Base of all errors that are explained to the user without a traceback."""

    exit_code = 1


class UsageError(CdpStreamError):
    """The command was given something it cannot work with."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file: where (`audiences[2].definition`), what, and what would be right."""

    path: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        """`path: message; suggestion`."""
        hint = f"; {self.suggestion}" if self.suggestion else ""
        return f"{self.path}: {self.message}{hint}" if self.path else f"{self.message}{hint}"


class TopologyError(CdpStreamError):
    """The topology cannot be used; `problems` says where and why."""

    exit_code = 3

    def __init__(self, file: str, problems: list[Problem]) -> None:
        """Name the file once per problem, so that every line stands alone."""
        self.file = file
        self.problems = problems
        super().__init__("\n".join(f"{file}: {problem}" for problem in problems))


class SettingsError(CdpStreamError):
    """A setting (environment variable) cannot be used."""

    exit_code = 3


class StateError(CdpStreamError):
    """The stored state cannot be used as it is."""


class LogContradiction(CdpStreamError):
    """The identity log or a source is not what the stored state was made from."""


class Fenced(CdpStreamError):
    """Another worker owns the partition now; the broker refused our output."""


class BrokerUnavailable(CdpStreamError):
    """No broker could be found, started or reached."""


class StartAgain(CdpStreamError):
    """The topology in force has other topics than those that were claimed: the owner is to claim anew, with them."""
