"""A sweep's files as a driver leaves them, for the tests of the watcher."""

from datetime import UTC, datetime, timedelta

from mtl.records import EpochRecord, Result
from mtl.store import Store
from sweeps.plan import grid_specs
from sweeps.priority_grid import GRID

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
SPECS = grid_specs(GRID)
IDS = [spec.run_id() for spec in SPECS]
PRIOR = {"depth": {"delta1": 0.5}, "segmentation": {"miou": 0.2}}
DAMAGED_FILES = [
    "", "[]", "{}", '{"schema": 2}', "x" * 100, '{"schema": 1, "state": 5, "updated": "x"}',
]  # fmt: skip
STRANGE_VALUES = [
    {"updated": "yesterday"},
    {"updated": "0001-01-01T00:00:00+23:59"},
    {"running": [{"run_id": "../../etc", "epoch": 1}]},
    {"running": [{"run_id": IDS[4], "epoch": 1, "losses": [10**400, "x\x1b[2J"]}]},
    {"running": [{"run_id": "f" * 16, "epoch": 1, "losses": 5}]},
    {"running": [{"run_id": IDS[4], "epoch": 10**4000}]},
    {"expected_seconds_left": [None, None]},
    {"state": "\x1b[2J" * 50},
    {"done": 10**300},
    {"paused": "\x1b[2J"},
]
"""Of a status."""


def finish(store: Store, index: int, delta1: float, miou: float) -> None:
    """Write a run that is done, with these metrics on validation."""
    run_id = store.write_spec(SPECS[index])
    metrics = {
        "validation": {"depth": {"delta1": delta1}, "segmentation": {"miou": miou}},
        "test": {"depth": {"delta1": 0.99}, "segmentation": {"miou": 0.99}},
    }
    store.write_manifest(run_id, {"per_pixel_prior": {"validation": PRIOR, "test": PRIOR}})
    epochs = SPECS[index].epochs
    store.write_result(Result(run_id, "done", epochs, "last", epochs, metrics, metrics))


def write_status(store: Store, seconds_ago: float = 3.0, **changes: object) -> None:
    """Write the plan and the status of the sweep `mine`, which is running."""
    revision = {"started": "x", "run_ids": IDS, "varies": {}}
    plan = {"schema": 1, "kind": "priority_grid", "revisions": [revision]}
    store.write_json(store.sweep_key("mine", "plan.json"), plan)
    status = {
        "schema": 1, "updated": (NOW - timedelta(seconds=seconds_ago)).isoformat(),
        "state": "running", "total": 20, "done": 4, "failed": 1, "waiting": 14,
        "running": [{"run_id": IDS[4], "epoch": 2, "losses": [0.5, None]}],
        "expected_seconds_left": [103.0, 203.0],
    }  # fmt: skip
    store.write_json(store.sweep_key("mine", "status.json"), status | changes)


def record(epoch: int) -> EpochRecord:
    """Return what a run tells of an epoch."""
    return EpochRecord(epoch, [0.25, None], None, None, None, 1e-3, {}, 1.0)
