"""Errors that are a sentence for their user: what was expected, what was found, the remedy."""

import traceback
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """What a user can mend, in one sentence; `mtl.command_line.run` prints it."""

    exit_status = 1


class UsageError(UserError, ValueError):
    """A command line, a field or a value that asks for what cannot be."""

    exit_status = 2


class PreparedDataError(UserError):
    """Prepared data that cannot be made or read, in one sentence for its user."""


class BadSampleError(UserError):
    """A sample that cannot be read: names the file, what was expected and the remedy.

    `--skip-bad` leaves such samples out and lists them; otherwise preparation ends.
    """


class RunFailedError(UserError):
    """A run that would fail again however often it is tried, in one sentence for its user."""


class RunPausedError(Exception):
    """A run was left after the epoch that its `Runtime` names; asked for again, it goes on."""


class RankLostError(UserError):
    """A process that trained a run with this one is gone and has not said why; resume it."""


class StoreError(UserError):
    """A store that cannot be used, in one sentence for its user."""


class StoreUnreachableError(UserError):
    """Object storage does not answer, or refuses, in one sentence for its user.

    No `StoreError`: those mostly mean that a file counts as damaged.
    """


class PreflightError(UserError):
    """Something that every run needs and that cannot be had, in one sentence for the user."""


def raised(error: BaseException, code: Iterable[Path]) -> str:
    """Return on one line what was raised, and the last place in their code that it came from.

    Args:
        error: what code from outside raised, or code of this project that it called.
        code: files and folders of the code from outside.
    """
    files = [path.resolve() for path in code]
    places = [
        f" in {Path(frame.filename).name}, line {frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if any(Path(frame.filename).resolve().is_relative_to(path) for path in files)
    ]
    reason = printable(f"{type(error).__name__}: {error}").rstrip(".")
    return reason + (places[-1] if places else "")


def printable(text: object, max_length: int = 300) -> str:
    """Return `text` on one line, short, and without control characters."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return shown if len(shown) <= max_length else f"{shown[: max_length - 3]}..."
