"""``main``: find the command, run it, turn what goes wrong into one line and an exit code."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from stability import __version__
from stability.cli import pages, searching, sweeping, theory, trained
from stability.cli.parser import Command, Parser
from stability.names import resolve, unknown

DONE, FAILED, WRONG_INPUT, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141
KEPT = {
    False: "what was there before is as it was",
    True: "chunks that were finished are kept: the same command goes on from there",
}
"""Of a command that resumes, and of others."""


def commands() -> list[Command]:
    """Every command, in the order in which they are listed."""
    return [
        *pages.quickstart_command(),
        *sweeping.commands(),
        *pages.commands(),
        *searching.commands(),
        *trained.commands(),
        *theory.commands(),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: what was typed behind ``stability``; by default what was.

    Returns:
        0 done; 1 the machine failed, or cells of a run did; 2 wrong input (nothing was written); 130 interrupted; 141
        nobody reads what is printed.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    with _interruptible():
        return _main(typed)


def _main(typed: list[str]) -> int:
    resumes = False
    try:
        known = {command.name: command for command in commands()}
        parser = Parser(
            prog="stability",
            description="Measure how far an image representation moves under deformations, next to what theory allows.",
        )
        parser.add_argument("--version", action="version", version=f"stability {__version__}")
        subcommands = parser.add_subcommands(dest="command", required=True)
        for command in known.values():
            subcommands.add_subcommand(command.name, command.parser, help=command.help)
        typed, settings = _settings(typed, known)
        options = parser.parse_args(typed)
        chosen = options[options.command]
        if known[options.command].settings:
            chosen["settings"] = settings
        resumes = known[options.command].resumes
        code = known[options.command].run(chosen)
        sys.stdout.flush()
        return code
    except ValueError as error:
        print(f"stability: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG_INPUT
    except BrokenPipeError:  # as of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to be flushed goes nowhere
        return UNREAD
    except (OSError, RuntimeError) as error:
        print(f"stability: {' '.join(str(error).split())}; {KEPT[resumes]}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"stability: interrupted; {KEPT[resumes]}", file=sys.stderr)
        return INTERRUPTED


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A polite kill counts as Ctrl-C, and after either no thread complains of workers that are gone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    def complain(said: threading.ExceptHookArgs) -> None:
        if not seen:
            usual(said)

    usual, threading.excepthook = threading.excepthook, complain
    heard = [one for one in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        if not seen:  # otherwise the process ends, and its threads with it
            threading.excepthook = usual
        for number, handler in before.items():
            signal.signal(number, handler)


def _settings(typed: Sequence[str], known: dict[str, Command]) -> tuple[list[str], list[tuple[str, str]]]:
    """What was typed without the ``--a.b value`` that change a specification, and those.

    Raises:
        ValueError: for an unknown command or option; the nearest is named.
    """
    if not typed or typed[0].startswith("-"):
        return list(typed), []
    command = resolve("command", typed[0], known)
    names: list[str] = []
    if command.settings:
        from stability.sweeps.files import setting_names

        names = setting_names()
    rest, settings = [typed[0]], []
    words = iter(typed[1:])
    for word in words:
        name, equals, value = word.partition("=")
        path = name[2:]
        first = path.partition(".")[0].replace("-", "_")
        if name.startswith("--") and name not in command.options and first in names:
            if not equals and (value := next(words, "")) == "":
                raise ValueError(f"{name} must be followed by a value, got none; for example {name} 2")
            settings.append((first + path[len(first) :], value))
        elif name.startswith("--") and name not in command.options:
            there = [option for option in command.options if option.startswith("--")]
            raise ValueError(unknown(f"an option of {command.name}", name, [*there, *(f"--{one}" for one in names)]))
        else:
            rest.append(word)
    return rest, settings
