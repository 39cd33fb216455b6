"""What commands share: wrong usage and failures told in one sentence, as an exit status."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from mtl.errors import PreflightError, PreparedDataError, StoreError, StoreUnreachableError


def printable(text: object, most: int = 300) -> str:
    """Return `text` on one line, short, and without what a terminal would obey."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


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


def in_words(kind: str, do: Callable[[], int]) -> int:
    """Return the exit status of `do`; whatever its user can mend is told in a sentence."""
    try:
        return do()
    except ValueError as error:
        print(f"{kind}: {error}", file=sys.stderr)
        return USAGE_STATUS
    except (StoreError, StoreUnreachableError, PreparedDataError, PreflightError) as error:
        print(f"{kind}: {error}", file=sys.stderr)
        return INCOMPLETE_STATUS
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INCOMPLETE_STATUS
    except OSError as error:
        print(
            f"{kind}: {error.filename or 'The store'}: {error.strerror or error}. What is done is "
            "kept; once that is mended the same command continues.",
            file=sys.stderr,
        )
        return INCOMPLETE_STATUS
    except MemoryError as error:
        print(
            f"{kind}: Out of memory{f' ({error})' if str(error) else ''}. What is done is kept; "
            "with less to do or more memory the same command continues.",
            file=sys.stderr,
        )
        return INCOMPLETE_STATUS
    except KeyboardInterrupt:
        print("Stopped. The same command continues.", file=sys.stderr)
        return INCOMPLETE_STATUS
