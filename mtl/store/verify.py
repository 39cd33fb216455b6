"""Every file of every run and sweep of a local store: what is damaged, and what that costs."""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from mtl.errors import StoreError, UsageError, printable
from mtl.records import CHECKPOINT_SCHEMA, LATEST, WEIGHTS, WEIGHTS_SCHEMA
from mtl.spec import OwnSpec, RunSpec, Spec
from mtl.store.lease import parse_lease
from mtl.store.local import parse_json, with_schema
from mtl.store.plan_file import read_plan
from mtl.store.store import Store, check_sweep_name

MAX_UNPACKED_BYTES = 1_000_000_000
"""Of a zip that is smaller than that: its checksums are tested by unpacking it."""

Answer = TypeVar("Answer")

TRAIN_AGAIN = "remove the run (remove --run) and ask for it again"
COSTS = {
    "spec.json": "the run is not used until its sweep is started again, which writes the file; if "
    f"it still describes another run, {TRAIN_AGAIN}",
    "result.json": f"the run's epochs of training; {TRAIN_AGAIN}",
    "epochs.jsonl": f"the training curve of a run that is done; of another, {TRAIN_AGAIN}",
    "manifest.json": "how the run was made, and the use of its weights; a result stands",
    "error.txt": "the reason of a failure; start the sweep with --retry-failed",
    "checkpoint": f"the network as it was then, no result; remove the file, or {TRAIN_AGAIN}",
    WEIGHTS: f"the use of the network, no result; {TRAIN_AGAIN}",
    "samples": "a few predictions to look at; remove the file",
    ".lock": f"nothing; remove it, or {TRAIN_AGAIN}",
    "plan.json": "which runs the sweep asked for; no run: remove it, start the sweep again",
    "events.jsonl": "some of the sweep's history; no run",
    "decisions.jsonl": "what --refine or a search has chosen, and no run: remove the line for a "
    "refinement, which chooses again from the same results; start a search under another --name, "
    "where its finished runs are used again",
    "status.json": "what watch shows; it is written again",
    "lease.json": "no run; the next start writes it again",
}
"""Name in a run's or a sweep's folder -> what damage of it costs, and what helps."""
RUN_FILES = ("spec.json", "epochs.jsonl", "result.json", "manifest.json", "error.txt", ".lock")
RUN_FOLDERS = ("checkpoint", "samples")


@dataclass(frozen=True)
class Damage:
    """A file that is not what it should be."""

    path: str
    """Below the store's folder."""
    what: str
    """What is wrong, in a sentence."""

    @property
    def cost(self) -> str:
        """Return what is lost by it, and what helps."""
        kind, *names = self.path.split("/")
        if len(names) > 1:
            return COSTS.get(names[-1], COSTS.get(names[1], TRAIN_AGAIN))
        return f"the run; {TRAIN_AGAIN}" if kind == "runs" else COSTS["plan.json"]


class Findings:
    """What is wrong in a store."""

    def __init__(self, store: Store) -> None:
        self.num_runs = self.num_sweeps = 0
        self.damages: list[Damage] = []
        self.notes: list[str] = []
        """Of what is not wrong, but worth knowing."""
        self._folder = f"{store.root}/"

    def damage(self, key: str, what: str) -> None:
        """Add a damaged file."""
        self.damages.append(Damage(printable(key), printable(what.replace(self._folder, ""), 1000)))

    def note(self, key: str, what: str) -> None:
        """Add a note on a file."""
        self.notes.append(f"{printable(key)} {what}")

    def look(self, key: str, read: Callable[[], Answer]) -> Answer | None:
        """Return what `read` gives; if it cannot read the file, that is damage."""
        try:
            return read()
        except FileNotFoundError:
            self.damage(key, "is absent")
        except (StoreError, OSError) as error:
            self.damage(key, str(error))
        return None

    def foreign(self, key: str) -> None:
        """Note a file that has no place here."""
        hidden = key.rpartition("/")[2].startswith(".")
        what = "was left by a process that was killed" if hidden else "is no file of a store"
        self.note(key, f"{what}; it is not read, and can be removed.")


def verify_store(store: Store) -> Findings:
    """Look at every file of a local store; nothing is written, and no link is followed.

    Checkpoints are loaded, values only; without torch their checksums alone are tested.
    """
    found = Findings(store)
    known = set(store.run_ids())
    found.num_runs = len(known)
    for name in store.names("runs"):
        if name in known:
            _verify_run(store, name, found, with_torch=True)
        else:
            found.foreign(f"runs/{name}")
    for name in store.names("sweeps"):
        _verify_sweep(store, name, found, known)
    return found


def verify_run(store: Store, run_id: str) -> list[Damage]:
    """Return what is damaged in one run; checkpoints are not loaded."""
    found = Findings(store)
    _verify_run(store, run_id, found, with_torch=False)
    return found.damages


def verify_sweep(store: Store, name: str) -> list[Damage]:
    """Return what is damaged in one sweep's own files."""
    found = Findings(store)
    _verify_sweep(store, name, found, known=None)
    return found.damages


def _verify_run(store: Store, run_id: str, found: Findings, with_torch: bool) -> None:
    run = store.run_key(run_id)
    if not _is_folder(store, run, found):
        return
    num_damages = len(found.damages)
    names = found.look(run, lambda: store.names(run))
    if names is None:
        return
    for name in names:
        key = f"{run}/{name}"
        if name in RUN_FOLDERS:
            _is_folder(store, key, found)
        elif name not in RUN_FILES:
            found.foreign(key)
        elif store.kind(key) != "file":
            found.damage(key, f"is a {store.kind(key)}, not a file")
    if len(found.damages) > num_damages:
        return  # nothing below a link is read
    spec = found.look(f"{run}/spec.json", lambda: store.spec(run_id))
    if spec is None:
        return  # what the other files should hold follows from the spec
    is_done = "result.json" in names
    if is_done:
        found.look(f"{run}/result.json", lambda: _check_result(store, spec))
    records = found.look(f"{run}/epochs.jsonl", lambda: _num_epochs(store, spec, is_done))
    if is_done or "manifest.json" in names:
        found.look(f"{run}/manifest.json", lambda: _check_manifest(store, spec))
    if "error.txt" in names:
        found.look(f"{run}/error.txt", lambda: store.error(run_id))
    for folder in RUN_FOLDERS:
        for name in store.names(f"{run}/{folder}"):
            key = f"{run}/{folder}/{name}"
            if name.startswith("."):
                found.foreign(key)
                continue
            held = found.look(key, partial(_opened, store, key, with_torch))
            if held is not None:
                # A run that is trained has gone on since its records were read.
                num_records = None if store.is_locked(run) else records
                found.look(key, partial(_check_checkpoint, held, key, spec, num_records))


def _is_folder(store: Store, key: str, found: Findings) -> bool:
    kind = store.kind(key)
    if kind != "folder":
        found.damage(key, f"is a {kind}, not a folder")
    return kind == "folder"


def _check_result(store: Store, spec: Spec) -> None:
    result = store.result(spec.run_id())
    if result is None:
        raise FileNotFoundError
    splits = ("test",) if isinstance(spec, OwnSpec) else ("validation", "test")
    if isinstance(spec, RunSpec) and (result.epochs, result.selection) != (
        spec.epochs,
        spec.selection,
    ):
        raise StoreError(
            f"Expected the result of {spec.epochs} epochs, selection {spec.selection}, as its spec "
            f"says, got {result.epochs}, {result.selection}."
        )
    for metrics in (result.selected_metrics, result.final_metrics):
        for split in splits:
            if set(metrics.get(split, {})) != set(spec.tasks):
                raise StoreError(
                    f"Expected {split} metrics of {', '.join(spec.tasks)}, got others."
                )


def _num_epochs(store: Store, spec: Spec, is_done: bool) -> int:
    records = store.epochs(spec.run_id())
    result = store.result(spec.run_id()) if store.is_done(spec.run_id()) else None
    if [record.epoch for record in records] != [*range(1, len(records) + 1)]:
        raise StoreError("Expected the records of epoch 1 and those after it, got others.")
    if any(len(record.losses) != len(spec.tasks) for record in records):
        raise StoreError(f"Expected {len(spec.tasks)} losses an epoch, as its spec says.")
    # How often a function of one's own reports, its result alone tells.
    expected = spec.epochs if isinstance(spec, RunSpec) else (result and result.epochs)
    if isinstance(spec, RunSpec) and spec.is_mixed:  # no epoch was trained
        expected = 0
    if expected and (len(records) > expected or (is_done and len(records) < expected)):
        says = "spec" if isinstance(spec, RunSpec) else "result"
        raise StoreError(f"Expected {expected} epochs, as its {says} says, got {len(records)}.")
    return len(records)


def _check_manifest(store: Store, spec: Spec) -> None:
    manifest = store.manifest(spec.run_id())
    if manifest is None:
        raise FileNotFoundError
    if isinstance(spec, OwnSpec):
        return
    data = manifest.get("data")
    info = data.get("info") if isinstance(data, dict) else None
    if not isinstance(info, dict) or not isinstance(info.get("classes"), list):
        raise StoreError("Expected the classes of the data, which predictions need, got none.")


def _opened(store: Store, key: str, with_torch: bool) -> Any:
    """Test the checksums of a zip, which checkpoints and samples are; load a checkpoint.

    Returns:
        What a checkpoint holds, where it was loaded; else None.
    """
    if store.kind(key) != "file":
        raise StoreError(f"is a {store.kind(key)}, not a file")
    path = store.root / key
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > max(MAX_UNPACKED_BYTES, path.stat().st_size):
                raise UsageError(f"it would unpack to {unpacked:,} bytes")
            bad = archive.testzip()
        if bad is not None:
            raise UsageError(f"its part {bad!r} is not what was written")
        if not with_torch or not key.endswith(".pt"):
            return None
        try:
            import torch
        except ImportError:
            return None
        # Values only, and mapped: no more is read than the table of contents.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # zipfile and torch raise half a dozen types for damaged files
        reason = str(error).strip().partition("\n")[0]
        raise StoreError(f"is a damaged file ({type(error).__name__}: {reason})") from error


def _check_checkpoint(held: Any, key: str, spec: Spec, num_records: int | None) -> None:
    name = key.rpartition("/")[2]
    schema = WEIGHTS_SCHEMA if name == WEIGHTS else CHECKPOINT_SCHEMA
    if not isinstance(held, Mapping) or held.get("schema") != schema:
        raise StoreError(f"Expected a checkpoint of schema {schema}, got another.")
    if held.get("run_id") != spec.run_id():
        raise StoreError(f"Expected a checkpoint of this run, got one of {held.get('run_id')!r}.")
    epoch = held.get("epoch")
    has_records = type(epoch) is int and num_records is not None and 1 <= epoch <= num_records
    if name == LATEST and num_records is not None and not has_records:
        raise StoreError(
            f"Expected a checkpoint after one of the {num_records} epochs in epochs.jsonl, got one "
            f"after epoch {epoch!r}. Remove the run to train it again."
        )


def _verify_sweep(store: Store, name: str, found: Findings, known: set[str] | None) -> None:
    """Look at a sweep's own files; `known` are the runs of the store, None to leave them."""
    key = f"sweeps/{name}"
    try:
        check_sweep_name(name)
    except ValueError:
        found.foreign(key)
        return
    if not _is_folder(store, key, found):
        return
    found.num_sweeps += 1
    plan = found.look(f"{key}/plan.json", lambda: read_plan(store, name))
    absent = set() if plan is None or known is None else {*plan.run_ids} - known
    if plan is not None and absent:
        runs = "1 run" if len(absent) == 1 else f"{len(absent)} runs"
        found.note(
            key, f"plans {runs} that the store does not hold; {plan.about_absent(len(absent))}."
        )
    names = store.names(key)
    for file, check in (("status.json", _check_status), ("lease.json", _check_lease)):
        if file in names:
            found.look(f"{key}/{file}", partial(check, store, f"{key}/{file}"))
    for file in ("events.jsonl", "decisions.jsonl"):
        if file in names:
            _verify_lines(store, f"{key}/{file}", found)


def _check_status(store: Store, key: str) -> None:
    with_schema(store.read_json(key), 1, "a status", store.place(key))


def _check_lease(store: Store, key: str) -> None:
    if parse_lease(store.read(key), store.place(key)) is None:
        raise StoreError("Expected a whole lease, got a damaged file.")


def _verify_lines(store: Store, key: str, found: Findings) -> None:
    """Look at a log; a torn last line, and in events any, is what a kill leaves, and no damage."""
    log = found.look(key, lambda: store.read_log(key)) or b""
    lines = log.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            is_right = not line.strip() or isinstance(parse_json(line, key), dict)
        except StoreError:
            is_right = False
        if is_right:
            continue
        if number == len(lines) or key.endswith("events.jsonl"):
            found.note(key, f"has a torn line {number}, as a kill leaves it.")
        else:
            found.damage(key, f"has no JSON object in line {number}")
            return
