"""What the commands share: consoles, the JSON line, progress, and errors as people should see them."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lab.engine.process import Cancel, Cancelled
from lab.errors import LabError

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
EXIT_REFUSED = 2  # a person can mend it
EXIT_FAILED = 1  # a part of the work failed
EXIT_STOPPED = 130  # Ctrl-C


def print_json(document: Any) -> None:
    """Print one compact JSON document as a line of its own, past rich's wrapping."""
    sys.stdout.write(json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def plain_errors(as_json: bool = False) -> Iterator[None]:
    """Turn what a person can mend into a message and an exit code, and with `as_json` into a document {"error": …} too."""
    try:
        yield
    except Cancelled as error:
        _say(str(error), "yellow", as_json)
        raise typer.Exit(EXIT_STOPPED) from None
    except LabError as error:
        _say(f"Error: {error}", "red", as_json)
        raise typer.Exit(EXIT_REFUSED) from None
    except OSError as error:  # a folder that cannot be written, a full disk: the system's own words name the file
        _say(f"Error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", "red", as_json)
        raise typer.Exit(EXIT_REFUSED) from None


def _say(message: str, style: str, as_json: bool) -> None:
    errors.print(message, markup=False, style=style, soft_wrap=True)
    if as_json:
        print_json({"error": message.removeprefix("Error: ")})


@contextlib.contextmanager
def stoppable() -> Iterator[Cancel]:
    """A `Cancel` that Ctrl-C and SIGTERM set."""
    cancel = Cancel()
    before = {number: signal.signal(number, lambda *_: cancel.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Follower:
    """Shows what the engine is doing; call it as the engine's progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("starting", total=None)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show `stage`, `done` of `total` (0: unknown)."""
        self._progress.update(self._task, description=stage, completed=done, total=total or None)


@contextlib.contextmanager
def following() -> Iterator[Follower]:
    """A progress line on stderr, gone when the work is done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        yield Follower(progress)
