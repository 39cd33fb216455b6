"""Errors that are a sentence for their user."""


class PreparedDataError(Exception):
    """Prepared data that cannot be made or read, in one sentence for its user."""


class BadSourceError(Exception):
    """A data set that cannot be opened: names what was expected, what was found, the remedy."""


class BadSampleError(Exception):
    """A sample that cannot be read: names the file, what was expected and the remedy.

    `--skip-bad` leaves such samples out and lists them; otherwise preparation ends.
    """


class RunFailedError(Exception):
    """A run that would fail again however often it is tried, in one sentence for its user."""


class RunPausedError(Exception):
    """A run was left after the epoch that its `Runtime` names; asked for again, it goes on."""


class StoreError(Exception):
    """A store that cannot be used, in one sentence for its user."""


class TooLargeError(StoreError):
    """A file is larger than its reader allows.

    Args:
        place: where it lies.
        num_bytes: its size.
        most_bytes: what would be allowed.
    """

    def __init__(self, place: str, num_bytes: int, most_bytes: int) -> None:
        super().__init__(
            f"Expected at most {most_bytes:,} bytes in {place}, got {num_bytes:,}. Remove the file."
        )
        self.num_bytes = num_bytes


class StoreUnreachableError(Exception):
    """Object storage does not answer, or refuses, in one sentence for its user.

    No `StoreError`: those mostly mean that a file counts as damaged.
    """


class PreflightError(Exception):
    """Something that every run needs and that cannot be had, in one sentence for the user."""
