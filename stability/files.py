"""Files that are whole or not there: written under a temporary name, then moved into place."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

HOST = socket.gethostname().replace(".", "-")
"""This machine, in the names of temporary files: several machines may write into one folder."""
STALE = 24 * 3600
"""Seconds after which a temporary file of another machine counts as left behind."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place if the block succeeds and vanishes if it does not."""
    temporary = path.with_name(f".{path.name}.{HOST}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep_away(*folders: Path) -> None:
    """Remove temporary files of processes that are no more."""
    for folder in folders:
        for path in folder.glob(".*.*.*"):
            *_, host, process = path.name.rsplit(".", 2)
            if not process.isdigit():
                continue
            with contextlib.suppress(FileNotFoundError):
                dead = not _alive(int(process)) if host == HOST else time.time() - path.stat().st_mtime > STALE
                if dead:
                    path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
