"""From errors to exit statuses: whatever a sweep's user can mend is told in one sentence."""

import os
import sys
from collections.abc import Callable

from mtl.command_line import INCOMPLETE_STATUS, USAGE_STATUS
from mtl.data.prepared import PreparedDataError
from mtl.store import StoreError, StoreUnreachableError
from sweeps.preflight import PreflightError


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
