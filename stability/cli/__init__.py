"""The command line: ``stability quickstart | run | plan | status | verify | export | report | plot | train | bound``.

Nothing here imports torch or matplotlib before a command needs it: ``--help``, ``status`` and ``bound`` start in a
fraction of a second.
"""

from stability.cli.main import DONE, FAILED, INTERRUPTED, WRONG_INPUT, main

__all__ = ["DONE", "FAILED", "INTERRUPTED", "WRONG_INPUT", "main"]
