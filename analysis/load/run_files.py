"""What a report reads of single runs beyond their results: epoch records and samples."""

import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mtl.errors import StoreError, UsageError
from mtl.records import EpochRecord
from mtl.store import Store

MAX_SAMPLE_BYTES = 256 * 2**20
"""Of all arrays of a sample file together; a small zip can claim to hold any number."""
Read = TypeVar("Read")


@dataclass(frozen=True)
class RunFiles:
    """The stores of a report; empty for tables from elsewhere."""

    stores: Sequence[Store] = ()

    def _first(self, read: Callable[[Store], Read]) -> Read | None:
        """Return what the first store has that can be read and is not empty."""
        for store in self.stores:
            try:
                found = read(store)
            except (StoreError, OSError):
                continue
            if found:
                return found
        return None

    def epochs(self, run_id: str) -> list[EpochRecord]:
        """Return the epoch records of a run; empty where no store has readable ones."""
        return self._first(lambda store: store.epochs(run_id)) or []

    def epochs_of(self, run_ids: Sequence[str]) -> dict[str, list[EpochRecord]]:
        """Return run id -> its epoch records; from object storage many runs are read at a time."""
        if not self.stores:
            return {run_id: [] for run_id in run_ids}
        records = self.stores[0].for_each(self.epochs, run_ids)
        return dict(zip(run_ids, records, strict=True))

    def sample_epochs(self, run_id: str) -> list[int]:
        """Return the epochs at which samples were written, rising."""

        def listed(store: Store) -> list[int]:
            names = store.names(store.run_key(run_id, "samples"))
            stems = (name.removesuffix(".npz") for name in names if name.endswith(".npz"))
            numbers = (stem.removeprefix("epoch_") for stem in stems if stem.startswith("epoch_"))
            return sorted(int(n) for n in numbers if n.isascii() and n.isdecimal())

        return self._first(listed) or []

    def samples(
        self, run_id: str, epoch: int, names: Collection[str] | None = None
    ) -> dict[str, np.ndarray] | None:
        """Return the arrays of `mtl.training.samples`, or None where they cannot be read.

        `epoch` is one of `sample_epochs`, `names` are the arrays to read; None reads all.
        """

        def arrays(store: Store) -> dict[str, np.ndarray] | None:
            key = store.run_key(run_id, "samples", f"epoch_{epoch:05d}.npz")
            data = store.read(key, MAX_SAMPLE_BYTES)
            try:
                return read_arrays(data, names)
            # Whatever the damage hits raises an error of its own: zip, zlib, tokenizer, numpy.
            except Exception:
                return None

        return self._first(arrays)


def read_arrays(data: bytes, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file of unknown origin; nothing is unpickled.

    A damaged file raises an error of any kind, as do arrays that would fill more than
    `MAX_SAMPLE_BYTES`.
    """
    arrays = {}
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        # What a member claims to hold is the most that zipfile gives of it.
        if sum(entry.file_size for entry in archive.zip.infolist()) > MAX_SAMPLE_BYTES:
            raise UsageError(f"Expected at most {MAX_SAMPLE_BYTES} bytes of arrays.")
        for name in archive.files:
            if names is not None and name not in names:
                continue
            arrays[name] = archive[name]
            if arrays[name].dtype.kind not in "biuf":
                raise UsageError(f"{name}: expected plain numbers, got {arrays[name].dtype}")
    return arrays


NO_FILES = RunFiles()
"""Of a table from elsewhere."""
