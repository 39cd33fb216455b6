"""Names that a user typed, checked against the known ones."""

import difflib
from collections.abc import Iterable
from typing import Any

MOST_LISTED = 100
"""More names than this are counted in a message, not listed."""


def checked_name(name: Any, known: Iterable[str], what: str) -> str:
    """Return `name` if it is one of `known`.

    Raises:
        ValueError: naming what was expected, the closest known names, and all known names
            unless they are too many to read.
    """
    known = sorted(known)
    if name in known:
        return name
    close = difflib.get_close_matches(str(name), known, n=5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    listed = ", ".join(known) if len(known) <= MOST_LISTED else f"{len(known)} names"
    raise ValueError(f"Unknown {what} {name!r}.{hint} Known: {listed or 'none'}.")
