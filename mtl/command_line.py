"""What commands share: wrong usage and failures told in one sentence, as an exit status."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from mtl.care.files import printable
from mtl.store import StoreError, StoreUnreachableError

USAGE_STATUS = 2
INCOMPLETE_STATUS = 1


class SentenceParser(argparse.ArgumentParser):
    """Reports wrong usage as the rest of the program does: an exception with one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raise a `ValueError`."""
        raise ValueError(f"{message[:1].upper()}{message[1:]}. See --help.")


def status_of(command: str, do: Callable[[], int]) -> int:
    """Return the exit status of `do`: 2 for a `ValueError`, 1 for a store or disk that fails.

    Args:
        command: its name, before every sentence on standard error.
        do: the command; its own status otherwise.
    """
    try:
        return do()
    except ValueError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return USAGE_STATUS
    except (StoreError, StoreUnreachableError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return INCOMPLETE_STATUS
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INCOMPLETE_STATUS
    except OSError as error:
        where = printable(error.filename or "The store")
        print(f"{command}: {where}: {error.strerror or error}.", file=sys.stderr)
        return INCOMPLETE_STATUS
