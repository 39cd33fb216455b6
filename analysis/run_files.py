"""What a report reads of single runs beyond their results: epoch records and samples."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtl.records import EpochRecord, TaskMetrics
from mtl.store import Store, StoreError

if TYPE_CHECKING:
    import numpy as np


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
            names = store.names(store.run_key(run_id, "samples"))
            found = sorted(
                int(stem.removeprefix("epoch_"))
                for stem in (name.removesuffix(".npz") for name in names)
                if stem.startswith("epoch_") and stem.removeprefix("epoch_").isdigit()
            )
            if found:
                return found
        return []

    def samples(self, run_id: str, epoch: int) -> "dict[str, np.ndarray] | None":
        """Return the arrays of `mtl.samples`, or None where they cannot be read."""
        # Only here: an unchanged report does not need it.
        import numpy as np

        for store in self.stores:
            try:
                data = store.read(store.run_key(run_id, "samples", f"epoch_{epoch:05d}.npz"))
                with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                    return {name: arrays[name] for name in arrays.files}
            except (FileNotFoundError, OSError, StoreError, ValueError, zipfile.BadZipFile):
                continue
        return None


NO_FILES = RunFiles()
"""Of a table from elsewhere."""
