"""The one place where errors become a sentence and an exit status; the parser of commands."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from mtl.errors import UsageError, UserError, printable


class Parser(argparse.ArgumentParser):
    """Reports wrong usage as a `UsageError`, like every other mistake of a user.

    Options are not abbreviated, so that an option added later changes no command.
    """

    def __init__(self, **options: Any) -> None:
        """Take the options of `argparse.ArgumentParser`."""
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageError`."""
        raise UsageError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")


def run(name: str, command: Callable[[], int], *, continues: bool = False) -> int:
    """Return the exit status of `command`; what its user can mend is one sentence on stderr.

    Args:
        name: of the command, before each sentence.
        command: the work; returns 0 if all asked for is done, else 1.
        continues: whether the same command goes on where it was interrupted.

    Returns:
        The status of `command`, or that of the `UserError` it raised (1, or 2 for wrong usage);
        1 for a disk that fails, too little memory, a closed pipe, or an interruption.
    """
    kept = " What is done is kept; the same command continues." if continues else ""
    try:
        status = command()
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


def _say(sentence: str, status: int = 1) -> int:
    print(sentence, file=sys.stderr)
    return status
