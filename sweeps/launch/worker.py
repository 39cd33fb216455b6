"""What a Tune trial does: train one run of the store and say how it went.

Imported by Ray's worker processes; torch comes in with the first training, not before.
"""

import traceback
from collections.abc import Callable
from typing import Any

from ray import tune

from mtl.data.prepared import PreparedDataError
from mtl.lease import Lease
from mtl.records import EpochRecord, Result, RunFailedError
from mtl.spec import Runtime
from mtl.store import RunBusyError, StaleLeaseError, Store, StoreError

Train = Callable[..., Result]
"""`mtl.training.fit`, or what a test puts in its place."""

LASTING_ERRORS = (RunFailedError, PreparedDataError, StoreError, ValueError)
"""Failures that a second try would repeat; of StoreErrors, those named below before it pass."""


def make_trainable(
    store_address: str,
    runtime: Runtime,
    train: Train | None = None,
    *,
    lease: Lease | None = None,
) -> Callable[[dict[str, Any]], None]:
    """Return the function that Tune calls with `{"run_id": ...}`.

    It reports `{"epoch", "losses"}` after each epoch and `{"state": done, failed or busy}` in the
    end; what may pass on a second try is raised, so that Tune tries again. Under a stale `lease`
    it is `busy`: the run is another driver's, and left as it is.
    """

    def train_run(config: dict[str, Any]) -> None:
        store = Store(store_address, lease=lease)
        run_id = config["run_id"]
        try:
            store.clear_error(run_id)
            _train(train)(store.spec(run_id), store, runtime, on_epoch=_report_epoch)
            state = "done"
        except (RunBusyError, StaleLeaseError):
            state = "busy"
        except LASTING_ERRORS:
            if store.error(run_id) is None:
                store.write_error(run_id, traceback.format_exc())
            state = "failed"
        tune.report({"state": state})

    return train_run


def _train(train: Train | None) -> Train:
    if train is not None:
        return train
    from mtl.training import fit

    return fit


def _report_epoch(record: EpochRecord) -> None:
    tune.report({"epoch": record.epoch, "losses": list(record.losses)})
