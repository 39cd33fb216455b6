"""The one place where errors become a sentence and an exit status; the parser of commands.

Every command takes `--json`: then standard output is one JSON value, what the command found or
`{"error": sentence, "exit_status": number}`, and all words go to standard error.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NoReturn

from mtl.errors import UsageError, UserError, printable

_called_as: ContextVar[str | None] = ContextVar("_called_as", default=None)


class _Answer:
    """What a command gives to `--json`, and whether that was asked for."""

    is_asked = False
    value: Any = None


_answer: ContextVar[_Answer | None] = ContextVar("_answer", default=None)
"""Of the command that runs; None outside of `run`."""


def answer(value: Any) -> bool:
    """Give what the running command found, as plain values; return whether `--json` asked for it.

    Without `--json` nothing happens.
    """
    held = _answer.get()
    if held is None or not held.is_asked:
        return False
    held.value = value
    return True


@contextmanager
def called_as(program: str) -> Iterator[None]:
    """Let the command that runs within call itself `program`, such as `lsb grid`."""
    token = _called_as.set(program)
    try:
        yield
    finally:
        _called_as.reset(token)


def program_name(name: str) -> str:
    """Return what the running command was called as: by itself it is `name`."""
    return _called_as.get() or name


class Parser(argparse.ArgumentParser):
    """Reports wrong usage as a `UsageError`, like every other mistake of a user.

    Options are not abbreviated, so that an option added later changes no command. A shell's
    request to complete a word is answered by argcomplete.
    """

    def __init__(self, *, prog: str, **options: Any) -> None:
        """Take the options of `argparse.ArgumentParser`; `prog` where nobody called it else.

        The description's lines stay as they are.
        """
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        name = program_name(prog)
        # The parser of a subcommand is handed a name that begins with that of its parent.
        super().__init__(
            prog=prog if prog.startswith(f"{name} ") else name, **options, allow_abbrev=False
        )
        # Left out of the arguments unless given: a subcommand's would hide that of its parent.
        self.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS,
            help="for machines: one JSON value on standard output, all words on standard error",
        )

    # Overloads of argparse; only the plain form is used here.
    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Return the arguments understood; where a shell asks for completions, print them and end.

        Raises:
            UsageError: for wrong usage.
        """
        if "_ARGCOMPLETE" in os.environ:
            import argcomplete  # only here: every command starts without it

            argcomplete.autocomplete(self)
        _listen(args)
        return _understood(super().parse_args(args, namespace))

    def parse_intermixed_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Return the arguments understood, positional ones between options too."""
        _listen(args)
        return _understood(super().parse_intermixed_args(args, namespace))

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageError`."""
        raise UsageError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")


def _listen(args: Sequence[str] | None) -> None:
    """Turn words to standard error where `--json` is among them, until `run` ends.

    Before they are understood, so that wrong usage is answered too.
    """
    words = sys.argv[1:] if args is None else list(args)
    words = words[: words.index("--")] if "--" in words else words
    held = _answer.get()
    if "--json" in words and held is not None:
        held.is_asked, sys.stdout = True, sys.stderr


def _understood(given: argparse.Namespace) -> argparse.Namespace:
    given.json = getattr(given, "json", False)
    return given


def run(name: str, command: Callable[[], int], *, continues: bool = False) -> int:
    """Return the exit status of `command`; what its user can mend is one sentence on stderr.

    Args:
        name: of the command, before each sentence, unless it was `called_as` something else.
        command: the work; returns 0 if all asked for is done, else 1.
        continues: whether the same command goes on where it was interrupted.

    Returns:
        The status of `command`, or that of the `UserError` it raised (1, or 2 for wrong usage);
        1 for a disk that fails, too little memory, a closed pipe, or an interruption.
    """
    outer = _answer.get()
    if outer is not None and outer.is_asked:  # a command within a command, which prints
        return _run(program_name(name), command, continues=continues)
    held, stdout = _Answer(), sys.stdout
    token = _answer.set(held)
    try:
        status = _run(program_name(name), command, continues=continues)
    finally:
        _answer.reset(token)
        sys.stdout = stdout
    if held.is_asked:
        value = {"exit_status": status} if held.value is None else held.value
        try:
            print(json.dumps(value, allow_nan=False), flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
    return status


def _run(name: str, command: Callable[[], int], *, continues: bool) -> int:
    kept = " What is done is kept; the same command continues." if continues else ""
    try:
        status = command()
        if sys.stdout is not None:  # closed before the command began
            sys.stdout.flush()
    except UserError as error:
        return _say(f"{name}: {error}", error.exit_status)
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f"{printable(error.filename)}: " if error.filename else ""
        return _say(f"{name}: {place}{error.strerror or error}.{kept}")
    except MemoryError as error:
        return _say(f"{name}: Out of memory{f' ({error})' if str(error) else ''}.{kept}")
    except KeyboardInterrupt:
        return _say(f"{name}: Stopped.{kept}")
    return status


def leave(status: int) -> NoReturn:
    """End this process, as `sys.exit` does at the end of a command, but at once.

    Python would first take apart all that was imported: half a second after pandas, SciPy and Ray,
    for which nobody has to wait.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):  # a closed pipe, of which `run` has told
                stream.flush()
    os._exit(status)


def _say(sentence: str, status: int = 1) -> int:
    print(sentence, file=sys.stderr)
    answer({"error": sentence, "exit_status": status})
    return status
