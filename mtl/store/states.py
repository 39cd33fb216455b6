"""What became of a run: the one place where its state is derived from its files."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

from mtl.errors import StoreError, printable
from mtl.records import PAUSED_AFTER, Result
from mtl.spec import Spec
from mtl.store.store import Store

Answer = TypeVar("Answer")
State = Literal["done", "running", "paused", "failed", "partial", "missing", "damaged"]
STATES: dict[str, str] = {
    "done": "has a result",
    "running": "is being trained (object storage does not tell: partial or missing there)",
    "paused": "was left on purpose by a search, which may ask for it again",
    "failed": "ended with an error",
    "partial": "was begun, and continues when it is asked for again",
    "missing": "is planned, no epoch finished",
    "damaged": "has a spec or a result that cannot be read; see `python -m mtl.store verify`",
}


@dataclass(frozen=True)
class StoredRun:
    """A run as it lies in a store."""

    run_id: str
    state: State
    reason: str = ""
    """Why it is not done, in words; empty for a run that is."""
    spec: Spec | None = None
    """None where it cannot be read."""
    result: Result | None = None
    """Of a run that is done."""
    manifest: Mapping[str, Any] | None = None
    """Of a run that is done, where it was asked for and can be read."""
    epochs: int = 0
    """Epochs recorded."""


def read_runs(
    store: Store,
    run_ids: Iterable[str],
    specs: Mapping[str, Spec] | None = None,
    *,
    manifests: bool = False,
) -> dict[str, StoredRun]:
    """Return run id -> run as it lies in a store, in the order of `run_ids`.

    Of the runs in `specs`, which are known already, spec.json is not read. With `manifests` those
    of the runs that are done are read as well.
    """
    asked, known = list(run_ids), specs or {}
    listed = {} if store.is_local else run_names(store, asked)

    def read(run_id: str) -> StoredRun:
        run = read_run(store, run_id, known.get(run_id), listed.get(run_id))
        has_manifest = manifests and run.state == "done"
        return replace(run, manifest=_readable(store.manifest, run_id)) if has_manifest else run

    return {run.run_id: run for run in store.for_each(read, asked)}


def run_names(store: Store, run_ids: Collection[str]) -> dict[str, list[str]]:
    """Return run id -> the names directly below it; of a run that is not there none."""
    if store.is_local:
        return {run_id: store.names(store.run_key(run_id)) for run_id in run_ids}
    return {
        run_id: sorted({file.name.partition("/")[0] for file in files})
        for run_id, files in store.run_files(run_ids).items()
    }


def in_state(runs: Mapping[str, StoredRun], state: State) -> set[str]:
    """Return the ids of those of `runs` that are in a state."""
    return {run_id for run_id, run in runs.items() if run.state == state}


def read_run(
    store: Store, run_id: str, spec: Spec | None = None, names: list[str] | None = None
) -> StoredRun:
    """Return a run as it lies in a store; nothing in its files can make this fail.

    Its spec and the names of its files are read unless they are known already.

    Raises:
        StoreUnreachableError: if object storage refuses or does not answer.
    """
    try:
        return _read_run(store, run_id, spec, names)
    except (StoreError, OSError) as error:
        return StoredRun(run_id, "damaged", _without_folder(store, error), spec)


def read_specs(stores: Sequence[Store], run_ids: Iterable[str]) -> dict[str, Spec]:
    """Return run id -> spec, in the order given, of the runs that have one that can be read."""
    asked = list(run_ids)
    found: dict[str, Spec] = {}
    for store in stores:
        left = [run_id for run_id in asked if run_id not in found]
        specs = store.for_each(partial(_readable, store.spec), left)
        found |= {i: spec for i, spec in zip(left, specs, strict=True) if spec is not None}
    return {run_id: found[run_id] for run_id in asked if run_id in found}


def _read_run(store: Store, run_id: str, spec: Spec | None, names: list[str] | None) -> StoredRun:
    key = store.run_key(run_id)
    names = store.names(key) if names is None else names
    if not names:
        if store.is_local and store.kind(key) not in ("folder", "absent"):
            reason = f"the run is a {store.kind(key)}, not a folder"
            return StoredRun(run_id, "damaged", reason, spec)
        return StoredRun(run_id, "missing", "planned, never started", spec)
    if spec is None:
        if "spec.json" not in names:
            return StoredRun(run_id, "damaged", "has no spec.json")
        spec = store.spec(run_id)
    if "result.json" in names:
        try:
            result = store.result(run_id)
        except StoreError as error:
            return StoredRun(run_id, "damaged", _without_folder(store, error), spec)
        if result is not None:
            return StoredRun(run_id, "done", "", spec, result, epochs=result.epochs)
    epochs = len(_readable(store.epochs, run_id) or []) if "epochs.jsonl" in names else 0
    state, reason = _state_without_result(store, run_id, names, epochs)
    if state in ("running", "paused", "partial"):
        of_all = f" of {spec.epochs}" if spec.epochs else ""
        reason = f"{reason}after epoch {epochs}{of_all}"
    return StoredRun(run_id, state, reason, spec, epochs=epochs)


def _state_without_result(
    store: Store, run_id: str, names: list[str], epochs: int
) -> tuple[State, str]:
    if store.is_locked(store.run_key(run_id)):
        return "running", ""
    if "error.txt" in names:
        text = _readable(store.error, run_id)
        return "failed", _last_line(text or "") or "no reason was written"
    manifest = _readable(store.manifest, run_id) if "manifest.json" in names else None
    if PAUSED_AFTER in (manifest or {}):  # a training that goes on removes this
        return "paused", "paused "
    if epochs or ("checkpoint" in names and store.has_checkpoint(run_id)):
        return "partial", ""
    return "missing", "planned, no epoch finished"


def _readable(read: Callable[[str], Answer], run_id: str) -> Answer | None:
    """Return what `read` reads of a run; None if the file is absent or damaged."""
    try:
        return read(run_id)
    except (StoreError, OSError):
        return None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return printable(lines[-1], 500) if lines else ""


def _without_folder(store: Store, error: Exception) -> str:
    """Return the message without the store's folder: a report is passed on to others."""
    text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
    return _last_line(text.replace(f"{store.place('')}/", ""))
