"""What a Tune trial does: train one run of the store and say how it went.

Imported by Ray's worker processes; torch comes in with the first training, not before.
"""

import traceback
from collections.abc import Callable
from typing import Any

from ray import tune

from mtl.data.prepared import PreparedDataError
from mtl.records import EpochRecord, Result, RunFailedError, RunPausedError
from mtl.spec import Runtime
from mtl.store import RunBusyError, Store, StoreError

Train = Callable[..., Result]
"""`mtl.training.fit`, or what a test puts in its place."""

LASTING_ERRORS = (RunFailedError, PreparedDataError, StoreError, ValueError)
"""Failures that a second try would repeat; `RunBusyError` alone is a StoreError that passes."""


def make_trainable(
    store_root: str, runtime: Runtime, train: Train | None = None
) -> Callable[[dict[str, Any]], None]:
    """Return the function that Tune calls with `{"run_id": ...}`.

    It reports `{"epoch", "losses"}` after each epoch and `{"state": done, paused, failed or busy}`
    in the end; what may pass on a second try is raised, so that Tune tries again.
    """

    def train_run(config: dict[str, Any]) -> None:
        store = Store(store_root)
        run_id = config["run_id"]
        try:
            store.clear_error(run_id)
            _train(train)(store.spec(run_id), store, runtime, on_epoch=_report_epoch)
            state = "done"
        except RunPausedError:
            state = "paused"
        except RunBusyError:
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
