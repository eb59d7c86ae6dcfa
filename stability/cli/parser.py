"""What all commands have in common: a parser whose errors are one line each."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentParser, Namespace


class Parser(ArgumentParser):
    """Errors become ``ValueError``, so that every wrong input is told in the same way."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise the message as one line."""
        told = re.sub(r'Parser key "([\w.]+)"', _as_option, " ".join(message.split()))
        if "required" in told:
            told = re.sub(r"\b(?:status|verify|export|report|plot)\.store\b", "STORE", told)
            told = re.sub(r"\b[a-z]+\.(\w+)", _as_option, told)
        raise ValueError(told + "; see stability --help") from ex


def _as_option(match: re.Match[str]) -> str:
    return "--" + match[1].rpartition(".")[2].replace("_", "-")


@dataclass(frozen=True)
class Command:
    """One command.

    Args:
        name: what is typed.
        help: one line for the list of commands.
        parser: its options.
        run: does it; returns the exit code.
        settings: whether ``--a.b value`` changes a specification.
        resumes: whether the same command goes on where it was stopped.
    """

    name: str
    help: str
    parser: Parser
    run: Callable[[Namespace], int]
    settings: bool = False
    resumes: bool = False

    @property
    def options(self) -> list[str]:
        """Every option that the command knows, as it is typed."""
        return [option for action in self.parser._actions for option in action.option_strings]


def add_jobs(parser: Parser, default: int) -> None:
    """The option ``-j``."""
    parser.add_argument("-j", "--jobs", type=int, default=default, help="worker processes; -1: one per core")


def check_jobs(jobs: int) -> int:
    """The number of jobs, if it is one.

    Raises:
        ValueError: for 0 and below -1.
    """
    if jobs == 0 or jobs < -1:
        raise ValueError(f"jobs must be a positive integer, or -1 for one per core, got {jobs}; use -j 2")
    return jobs


def given(name: str, folder: str) -> str:
    """The name of a folder or file, if there is one.

    Raises:
        ValueError: if it is empty.
    """
    if not folder.strip():
        raise ValueError(f"{name} must be the name of a folder, got {folder!r}; use for example reports/mine")
    return folder
