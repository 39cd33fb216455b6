"""The one place where errors become a sentence and an exit status; the parser of commands."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NoReturn

from mtl.errors import UsageError, UserError, printable

_called_as: ContextVar[str | None] = ContextVar("_called_as", default=None)


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
        """Take the options of `argparse.ArgumentParser`; `prog` where nobody called it else."""
        name = program_name(prog)
        # The parser of a subcommand is handed a name that begins with that of its parent.
        super().__init__(
            prog=prog if prog.startswith(f"{name} ") else name, **options, allow_abbrev=False
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
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageError`."""
        raise UsageError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")


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
    name = program_name(name)
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
    return status
