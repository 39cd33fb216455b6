"""What a store holds: every run with its state, filtered; and which sweeps planned it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from rich.filesize import decimal

from mtl.command_line import printable
from mtl.errors import UsageError
from mtl.records import PAUSED_AFTER, Result
from mtl.spec import RunSpec
from mtl.store.plan_file import PlanFile, PlanFileError, parse_plan
from mtl.store.store import Store
from mtl.store.untrusted import (
    AbsentError,
    Place,
    UnreadableError,
    entries_of,
    is_locked,
    kind_of,
    num_bytes,
    place_of,
    read_bytes,
    read_lines,
    read_object,
)

T = TypeVar("T")

State = Literal["done", "running", "failed", "paused", "partial", "waiting", "damaged"]
STATES: dict[State, str] = {
    "done": "has a result",
    "running": "is being trained; object storage does not tell, there it is partial or waiting",
    "failed": "ended with an error",
    "paused": "was left on purpose by a search, which may ask for it again",
    "partial": "was begun, and goes on when it is asked for again",
    "waiting": "is planned, no epoch finished",
    "damaged": "its spec or its result cannot be read; see verify",
}


@dataclass(frozen=True)
class Entry:
    """One run as it lies in a store."""

    run_id: str
    state: State
    spec: RunSpec | None
    """None where it cannot be read."""
    epochs: int
    """Epochs recorded."""
    num_bytes: int
    reason: str = ""
    """Why it failed or is damaged; empty otherwise."""
    sweeps: tuple[str, ...] = ()
    """Names of the sweeps that planned it."""

    def to_dict(self) -> dict[str, Any]:
        """Return what `list --json` prints of it."""
        spec = self.spec
        return {
            "run_id": self.run_id,
            "state": self.state,
            "reason": self.reason,
            "method": None if spec is None else spec.method,
            "tasks": None if spec is None else list(spec.tasks),
            "priorities": None if spec is None or spec.priorities is None else [*spec.priorities],
            "seed": None if spec is None else spec.seed,
            "epochs": None if spec is None else spec.epochs,
            "epochs_recorded": self.epochs,
            "bytes": self.num_bytes,
            "sweeps": list(self.sweeps),
        }


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which runs are meant; what is empty lets all pass."""

    run_ids: Sequence[str] = ()
    methods: Sequence[str] = ()
    tasks: Sequence[str] = ()
    """A run must have every one of them."""
    states: Sequence[str] = ()

    @property
    def is_empty(self) -> bool:
        """Return whether every run passes."""
        return not (self.run_ids or self.methods or self.tasks or self.states)

    def passes(self, entry: Entry) -> bool:
        """Return whether a run is meant; one without a readable spec has no method or task."""
        spec = entry.spec
        return (
            (not self.run_ids or entry.run_id in self.run_ids)
            and (not self.states or entry.state in self.states)
            and (not self.methods or (spec is not None and spec.method in self.methods))
            and (not self.tasks or (spec is not None and set(self.tasks) <= set(spec.tasks)))
        )


def read_spec(folder: Place) -> RunSpec:
    """Return the spec of the run in `folder`.

    Raises:
        UnreadableError: if it is damaged, or describes another run than the folder's name says.
    """
    held = read_object(folder / "spec.json")
    try:
        spec = RunSpec.from_dict(held)
        run_id = spec.run_id()
    except Exception as error:  # whatever a stranger's values make of it
        raise UnreadableError(f"is no spec ({error})") from error
    if run_id != folder.name:
        raise UnreadableError(
            f"describes run {run_id}: it was edited, or written by another release"
        )
    return spec


def read_result(folder: Place) -> Result | None:
    """Return the result of the run in `folder`, None while there is none.

    Raises:
        UnreadableError: if it is damaged, of another schema or of another run.
    """
    try:
        result = Result.from_dict(read_object(folder / "result.json"))
    except AbsentError:
        return None
    except ValueError as error:
        raise UnreadableError(f"is no result ({error})") from error
    if result.run_id != folder.name:
        raise UnreadableError(f"is the result of run {result.run_id!r}")
    return result


def read_entry(store: Store, run_id: str) -> Entry:
    """Return a run as it lies in the store; nothing in it can make this fail."""
    folder = place_of(store, store.run_key(run_id))
    size = num_bytes(folder)
    if kind_of(folder) != "folder":
        reason = f"the run is a {kind_of(folder)}, not a folder"
        return Entry(run_id, "damaged", None, 0, size, reason)
    epochs = _or_default(lambda: len(read_lines(folder / "epochs.jsonl")), 0)
    try:
        spec = read_spec(folder)
    except UnreadableError as error:
        return Entry(run_id, "damaged", None, epochs, size, f"spec.json {printable(error)}")
    try:
        result = read_result(folder)
    except UnreadableError as error:
        return Entry(run_id, "damaged", spec, epochs, size, f"result.json {printable(error)}")
    if result is not None:
        return Entry(run_id, "done", spec, epochs, size)
    state, reason = _state_without_result(folder, epochs)
    return Entry(run_id, state, spec, epochs, size, reason)


def _state_without_result(folder: Place, epochs: int) -> tuple[State, str]:
    if is_locked(folder):
        return "running", ""
    if kind_of(folder / "error.txt") != "absent":
        text = _or_default(lambda: read_bytes(folder / "error.txt"), b"")
        lines = text.decode("utf-8", "replace").strip().splitlines()
        return "failed", printable(lines[-1]) if lines else "no reason was written"
    if _is_paused(folder):
        return "paused", ""
    checkpoints = [folder / "checkpoint" / name for name in ("latest.pt", "latest.pt.json")]
    checkpointed = any(kind_of(path) == "file" for path in checkpoints)
    return ("partial" if epochs or checkpointed else "waiting"), ""


def _is_paused(folder: Place) -> bool:
    """Return whether the training paused; once it goes on, its manifest no longer says so."""
    nothing: dict[str, Any] = {}
    return PAUSED_AFTER in _or_default(lambda: read_object(folder / "manifest.json"), nothing)


def _or_default(read: Callable[[], T], default: T) -> T:
    try:
        return read()
    except UnreadableError:
        return default


def list_runs(store: Store, chosen: Filter | None = None) -> list[Entry]:
    """Return the runs of a store that pass, by tasks, method, priorities and seed.

    Raises:
        ValueError: if a run is named that the store does not hold.
    """
    chosen = chosen or Filter()
    sweeps = planned_by(store)

    def entry(run_id: str) -> Entry:
        names = tuple(name for name, planned in sweeps.items() if run_id in planned)
        return replace(read_entry(store, run_id), sweeps=names)

    entries = store.for_each(entry, run_ids_of(store))
    absent = sorted(set(chosen.run_ids) - {entry.run_id for entry in entries})
    if absent:
        raise UsageError(f"Expected runs of {store.place('')}, got {printable(', '.join(absent))}.")
    return sorted(filter(chosen.passes, entries), key=_by_content)


def run_ids_of(store: Store) -> list[str]:
    """Return the names in the runs folder that are run ids; none if that folder is a link."""
    return store.run_ids() if kind_of(place_of(store, "runs")) == "folder" else []


def _by_content(entry: Entry) -> tuple[Any, ...]:
    spec = entry.spec
    if spec is None:
        return ((), "", (), 0, entry.run_id)
    return (spec.tasks, spec.method, spec.priorities or (), spec.seed, entry.run_id)


def table(entries: Iterable[Entry]) -> str:
    """Return runs as aligned columns under their heads."""
    head = ("run", "state", "tasks", "method", "priorities", "seed", "epochs", "size", "sweep", "")
    rows: list[tuple[str, ...]] = [head]
    rows += [_row(entry) for entry in entries]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(entry: Entry) -> tuple[str, ...]:
    spec, size, sweeps = entry.spec, decimal(entry.num_bytes), printable(" ".join(entry.sweeps))
    last = (size, sweeps, entry.reason)
    if spec is None:
        return (entry.run_id, entry.state, "", "", "", "", str(entry.epochs), *last)
    priorities = "-"
    if spec.priorities is not None:
        priorities = " / ".join(f"{p:.3g}" for p in spec.priorities)
    return (
        entry.run_id,
        entry.state,
        " ".join(spec.tasks),
        spec.method,
        priorities,
        str(spec.seed),
        f"{entry.epochs} of {spec.epochs}",
        *last,
    )


def sums(entries: Sequence[Entry]) -> str:
    """Return one line: `20 runs: 18 done, 2 failed; 34.5 MB`."""
    counts = {state: sum(entry.state == state for entry in entries) for state in STATES}
    parts = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    size = decimal(sum(entry.num_bytes for entry in entries))
    noun = "run" if len(entries) == 1 else "runs"
    return f"{len(entries)} {noun}: {parts}; {size}" if entries else "no runs"


def planned_by(store: Store) -> dict[str, set[str]]:
    """Return sweep -> the run ids that any revision of its plan lists; unreadable plans have none.

    Only names that could be run ids are returned.
    """
    return {name: set(plan.run_ids) for name, plan in plans_of(store).items()}


def plans_of(store: Store) -> dict[str, PlanFile]:
    """Return sweep -> its plan; unreadable plans list no runs."""
    nothing = PlanFile("", ())
    return {
        folder.name: _or_default(lambda f=folder: read_plan(f), nothing)  # type: ignore[misc]
        for folder in _sweep_folders(store)
    }


def _sweep_folders(store: Store) -> list[Place]:
    """Return the folders of the sweeps; links and files are none."""
    if store.is_local:
        names = [path.name for path in entries_of(store.root / "sweeps")]
    else:
        names = store.sweep_names()
    folders = [place_of(store, "sweeps") / name for name in names]
    return [folder for folder in folders if kind_of(folder) == "folder"]


def read_plan(folder: Place) -> PlanFile:
    """Return the plan in a sweep's folder.

    Raises:
        UnreadableError: if it is damaged.
    """
    try:
        return parse_plan(read_object(folder / "plan.json"))
    except PlanFileError as error:
        raise UnreadableError(f"holds {error}") from error
