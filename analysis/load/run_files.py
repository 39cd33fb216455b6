"""What a report reads of single runs beyond their results: epoch records and samples."""

import io
import math
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtl.errors import StoreError, UsageError
from mtl.records import EpochRecord, TaskMetrics
from mtl.store import Store

if TYPE_CHECKING:
    import numpy as np


MAX_SAMPLE_BYTES = 256 * 2**20
"""Of all arrays of a sample file together; a small zip can claim to hold any number."""


@dataclass(frozen=True)
class RunFiles:
    """The stores of a report; empty for tables from elsewhere."""

    stores: Sequence[Store] = ()

    def epochs(self, run_id: str) -> list[EpochRecord]:
        """Return the epoch records of a run; empty where no store has readable ones."""
        for store in self.stores:
            try:
                records = store.epochs(run_id)
            except (StoreError, OSError):
                continue
            if records:
                return records
        return []

    def metrics(self, run_id: str, split: str) -> TaskMetrics:
        """Return a done run's metrics on a split; empty where no store holds them."""
        for store in self.stores:
            try:
                result = store.result(run_id)
            except (StoreError, OSError):
                continue
            if result is not None:
                return result.selected_metrics.get(split) or {}
        return {}

    def sample_epochs(self, run_id: str) -> list[int]:
        """Return the epochs at which samples were written, rising."""
        for store in self.stores:
            try:
                names = store.names(store.run_key(run_id, "samples"))
            except (StoreError, OSError):
                continue
            stems = (name.removesuffix(".npz") for name in names if name.endswith(".npz"))
            numbers = (stem.removeprefix("epoch_") for stem in stems if stem.startswith("epoch_"))
            found = sorted(int(n) for n in numbers if n.isascii() and n.isdecimal())
            if found:
                return found
        return []

    def samples(
        self, run_id: str, epoch: int, names: Collection[str] | None = None
    ) -> "dict[str, np.ndarray] | None":
        """Return the arrays of `mtl.training.samples`, or None where they cannot be read.

        Args:
            run_id: of the run.
            epoch: one of `sample_epochs`.
            names: of the arrays to read; None reads all.
        """
        for store in self.stores:
            try:
                key = store.run_key(run_id, "samples", f"epoch_{epoch:05d}.npz")
                data = store.read(key, MAX_SAMPLE_BYTES)
            except (StoreError, OSError):
                continue
            try:
                return read_arrays(data, names)
            # Whatever the damage hits raises an error of its own: zip, zlib, tokenizer, numpy.
            except Exception:
                continue
        return None


def read_arrays(data: bytes, names: Collection[str] | None = None) -> "dict[str, np.ndarray]":
    """Return the arrays of an npz file of unknown origin; nothing is unpickled.

    Raises:
        Exception: of any kind if the file is damaged, or would fill more than
            `MAX_SAMPLE_BYTES`; checked before memory is taken.
    """
    # Only here: an unchanged report does not need it.
    import numpy as np

    arrays = {}
    left = MAX_SAMPLE_BYTES
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if names is not None and name not in names:
                continue
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, is_fortran, dtype = read_header(file)
                size = math.prod(shape) * dtype.itemsize
                left -= size
                if dtype.hasobject or size < 0 or left < 0:
                    raise UsageError(f"{name}: expected plain numbers, got {dtype} {shape}")
                flat = np.frombuffer(file.read(size), dtype)
            arrays[name] = flat.reshape(shape, order="F" if is_fortran else "C")
    return arrays


NO_FILES = RunFiles()
"""Of a table from elsewhere."""
