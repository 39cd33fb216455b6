"""Every file of every run and sweep, looked at: what is damaged, and what that costs."""

import functools
import math
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from numpy.lib import format as npy
from rich.filesize import decimal

from mtl.command_line import printable
from mtl.errors import StoreError
from mtl.records import TASK_METRICS, EpochRecord, Result
from mtl.spec import RunSpec
from mtl.store.lease import DamagedLeaseError, parse_lease
from mtl.store.plan_file import DAMAGED_REMEDY, PlanFile, PlanFileError, parse_plan
from mtl.store.states import read_result, read_spec, run_ids_of
from mtl.store.store import Store, check_sweep_name
from mtl.store.untrusted import (
    LOCK,
    Place,
    UnreadableError,
    entries_of,
    is_locked,
    is_number,
    kind_of,
    opened,
    parse_json,
    read_bytes,
    read_lines,
    read_object,
)

MOST_PICKLE_BYTES = 16_000_000
"""Of a checkpoint's table of contents; the tensors lie beside it."""
MOST_SAMPLE_BYTES = 1_000_000_000
"""Of a samples file, unpacked."""
_CHECKPOINT_NAME = re.compile(r"latest\.pt|weights\.pt|epoch_\d{5,}\.pt")
_SAMPLES_NAME = re.compile(r"epoch_\d{5,}\.npz")


def check_checkpoint(
    path: Path, run_id: str, num_epochs: int, *, with_torch: bool = True
) -> int | None:
    """Test a checkpoint's checksums and, where torch is installed, what it holds.

    Args:
        path: the file.
        run_id: whose checkpoint it should be.
        num_epochs: of the whole training.
        with_torch: False tests the checksums alone, as does a machine without torch.

    Returns:
        Epochs trained; None for weights or where torch was not used.

    Raises:
        UnreadableError: if it is damaged, no checkpoint, or that of another run.
    """
    if not _CHECKPOINT_NAME.fullmatch(path.name):
        raise UnreadableError("is no checkpoint by its name; it is not read")
    with opened(path) as file:
        archive = _tested(file, path)
        for member in archive.infolist():
            # torch stores; whatever is packed may unpack to more than the disk holds.
            if member.compress_type != zipfile.ZIP_STORED:
                raise UnreadableError("is packed, which no checkpoint is")
            if member.filename.endswith("data.pkl") and member.file_size > MOST_PICKLE_BYTES:
                raise UnreadableError(f"has a table of contents of {decimal(member.file_size)}")
        _test_checksums(archive)
    if not with_torch:
        return None
    try:
        import torch  # noqa: F401
    except ImportError:
        return None
    return _loaded_epoch(path, run_id, num_epochs)


def _loaded_epoch(path: Path, run_id: str, num_epochs: int) -> int | None:
    import torch

    from mtl.records import CHECKPOINT_SCHEMA, WEIGHTS, WEIGHTS_SCHEMA

    try:
        # Mapped, so that no more is read than the table of contents.
        held: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise UnreadableError(f"does not load ({type(error).__name__})") from error
    schema = WEIGHTS_SCHEMA if path.name == WEIGHTS else CHECKPOINT_SCHEMA
    if not isinstance(held, dict) or held.get("schema") != schema:
        raise UnreadableError(f"is no checkpoint of schema {schema}")
    if held.get("run_id") != run_id:
        raise UnreadableError(f"is that of run {held.get('run_id')!r}")
    network = held.get("network")
    if not isinstance(network, dict) or not all(map(torch.is_tensor, network.values())):
        raise UnreadableError("holds no network")
    if path.name == WEIGHTS:
        return None
    epoch = held.get("epoch")
    if not isinstance(epoch, int) or isinstance(epoch, bool) or not 1 <= epoch <= num_epochs:
        raise UnreadableError(f"is of epoch {epoch!r} of {num_epochs}")
    if not all(isinstance(held.get(name), dict) for name in ("weighting", "optimizer", "seconds")):
        raise UnreadableError("holds no state of the weighting and the optimizer")
    return epoch


def check_samples(path: Path) -> None:
    """Test the checksums of a file of samples and that each array is as long as it says.

    Raises:
        UnreadableError: if it is damaged or no such file.
    """
    if not _SAMPLES_NAME.fullmatch(path.name):
        raise UnreadableError("is no file of samples by its name; it is not read")
    with opened(path) as file:
        archive = _tested(file, path)
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MOST_SAMPLE_BYTES:
            raise UnreadableError(f"unpacks to {decimal(unpacked)}, more than samples can have")
        _test_checksums(archive)
        names = {member.filename for member in archive.infolist()}
        if not {"image.npy", "indices.npy"} <= names:
            raise UnreadableError("holds no images")
        for member in archive.infolist():
            _check_array(archive, member)


def _tested(file: Any, path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise UnreadableError(f"is no {path.suffix} file, or a damaged one") from error


def _test_checksums(archive: zipfile.ZipFile) -> None:
    try:
        bad = archive.testzip()
    except Exception as error:  # zipfile raises half a dozen types for damaged files
        raise UnreadableError(f"is damaged ({type(error).__name__})") from error
    if bad is not None:
        raise UnreadableError(f"is damaged in {bad!r}")


def _check_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise unless a member's header promises just the bytes that follow; nothing is allocated."""
    try:
        with archive.open(member) as array:
            version = npy.read_magic(array)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(array)
            promised = math.prod(shape) * dtype.itemsize
            is_whole = promised == member.file_size - array.tell()
    except Exception as error:  # whatever a stranger's header makes of it
        raise UnreadableError(f"has no array in {member.filename!r}") from error
    if dtype.hasobject or not is_whole:
        raise UnreadableError(f"has a damaged array in {member.filename!r}")


def checked_result(folder: Path, spec: RunSpec) -> Result | None:
    """Return the result after a look at every value of it, None while there is none.

    Raises:
        UnreadableError: for the first value that its spec does not allow.
    """
    result = read_result(folder)
    if result is None:
        return None
    for name, found, expected in (
        ("status", result.status, "done"),
        ("epochs", result.epochs, spec.epochs),
        ("selection", result.selection, spec.selection),
    ):
        if found != expected or isinstance(found, bool):
            raise UnreadableError(f"has {name} {found!r}, its spec says {expected!r}")
    last = result.selected_epoch
    if not is_count(last) or not 1 <= last <= spec.epochs:
        raise UnreadableError(f"has selected_epoch {last!r} of {spec.epochs}")
    if spec.selection == "last" and last != spec.epochs:
        raise UnreadableError(f"has selected_epoch {last!r}, its spec says the last")
    for name in ("selected_metrics", "final_metrics"):
        _check_metrics(getattr(result, name), ("validation", "test"), spec, name)
    return result


def _check_metrics(held: Any, splits: Sequence[str], spec: RunSpec, name: str) -> None:
    if not isinstance(held, dict) or set(held) != set(splits):
        raise UnreadableError(f"has {name} without the splits {' and '.join(splits)}")
    for split, by_task in held.items():
        if not isinstance(by_task, dict) or set(by_task) != set(spec.tasks):
            raise UnreadableError(f"has {name}.{split} without the tasks {' '.join(spec.tasks)}")
        for task, values in by_task.items():
            if not isinstance(values, dict):
                raise UnreadableError(f"has {name}.{split}.{task} {values!r}")
            for metric, value in values.items():
                if metric not in TASK_METRICS[task] or not (value is None or is_number(value)):
                    raise UnreadableError(f"has {name}.{split}.{task}.{metric} {value!r}")


def checked_epochs(folder: Path, spec: RunSpec, is_done: bool) -> list[EpochRecord]:
    """Return the epoch records, which must be complete and in order.

    Raises:
        UnreadableError: for the first line that is not the next epoch.
    """
    records = []
    names = {field.name for field in fields(EpochRecord)}
    for number, line in enumerate(read_lines(folder / "epochs.jsonl"), 1):
        held = parse_json(line)
        if not isinstance(held, dict) or not names - {"cross_stitch"} <= set(held) <= names:
            raise UnreadableError(f"has no epoch record in line {number}")
        record = EpochRecord(**held)
        if not is_count(record.epoch) or record.epoch != number:
            raise UnreadableError(f"has epoch {record.epoch!r} in line {number}")
        for name in ("losses", "weights", "loss_scales", "difficulties"):
            values = held[name]
            if not (is_vector(values, len(spec.tasks)) or (values is None and name != "losses")):
                raise UnreadableError(f"has {name} {values!r} in line {number}")
        if not (is_number(record.learning_rate) and is_number(record.seconds)):
            raise UnreadableError(f"has no learning_rate or seconds in line {number}")
        _check_metrics(record.metrics, ("validation",), spec, f"line {number}: metrics")
        records.append(record)
    if len(records) > spec.epochs or (is_done and len(records) < spec.epochs):
        raise UnreadableError(f"has {len(records)} epochs of {spec.epochs}")
    return records


def check_agreement(result: Result, records: Sequence[EpochRecord]) -> None:
    """Raise an `UnreadableError` unless the result says what the epochs say."""
    for name, epoch, metrics in (
        ("final_metrics", len(records), result.final_metrics),
        ("selected_metrics", result.selected_epoch, result.selected_metrics),
    ):
        if metrics["validation"] != records[epoch - 1].metrics["validation"]:
            raise UnreadableError(f"has other {name} on validation than epoch {epoch} of its own")


def check_manifest(path: Path, is_done: bool) -> None:
    """Raise an `UnreadableError` for the first thing that a manifest lacks."""
    held = read_object(path)
    if held.get("schema") != 1:
        raise UnreadableError(f"is of schema {held.get('schema')!r}, not 1")
    for name in ("environment", "hardware", "data", "per_pixel_prior"):
        if not isinstance(held.get(name), dict):
            raise UnreadableError(f"holds no {name}")
    if not isinstance(held.get("code_version"), str):
        raise UnreadableError("holds no code_version")
    info = held["data"].get("info")
    if not isinstance(info, dict) or not isinstance(info.get("classes"), list):
        raise UnreadableError("holds no classes of its data")
    seconds = held.get("wall_seconds")
    if is_done and (seconds is None or not is_number(seconds) or seconds <= 0):
        raise UnreadableError(f"has wall_seconds {seconds!r}")


def is_count(value: Any) -> bool:
    """Return whether a JSON value is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_vector(values: Any, length: int) -> bool:
    """Return whether a JSON value is a list of so many numbers, or null where there is none."""
    return (
        isinstance(values, list)
        and len(values) == length
        and all(value is None or is_number(value) for value in values)
    )


TRAIN_AGAIN = "remove the run (remove --run) and ask for it again"
RUN_FILES = ("spec.json", "epochs.jsonl", "result.json", "manifest.json", "error.txt", LOCK)
RUN_FOLDERS = ("checkpoint", "samples")
CHOOSE_AGAIN = (
    "what --refine or a search has chosen, and no run: remove the line for a refinement, which "
    "chooses anew from the same results; start a search under another --name, where its finished "
    "runs are used again"
)
STATUS_COUNTS = ("total", "done", "failed", "waiting")


@dataclass(frozen=True)
class Damage:
    """A file that is not what it should be."""

    path: str
    """Below the store's folder."""
    what: str
    """What is wrong, in words that follow the path."""
    cost: str
    """What is lost by it, and what helps."""


@dataclass(frozen=True)
class Findings:
    """What a look at a store gave."""

    num_runs: int
    num_sweeps: int
    damages: tuple[Damage, ...]
    notes: tuple[str, ...]
    """Of what is not wrong, but worth knowing."""


class _Inspector:
    """Collects damages and notes below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.damages: list[Damage] = []
        self.notes: list[str] = []

    def name(self, path: Path) -> str:
        return printable(path.relative_to(self.root))

    def damage(self, path: Path, what: str, cost: str) -> None:
        self.damages.append(Damage(self.name(path), printable(what), cost))

    def note(self, path: Path, what: str) -> None:
        self.notes.append(f"{self.name(path)} {what}")

    def check(self, path: Path, look: Callable[[], Any], cost: str) -> Any:
        """Return what `look` gives; if it says that the file is unreadable, note it as damage."""
        try:
            return look()
        except UnreadableError as error:
            self.damage(path, str(error), cost)
        except OSError as error:
            self.damage(path, f"cannot be read ({error.strerror})", cost)
        return None


def verify_store(store: Store, *, with_torch: bool = True) -> Findings:
    """Look at every file of a store; nothing is written, and no link is followed.

    Args:
        store: opened for reading.
        with_torch: load the checkpoints, values only; otherwise their checksums alone are tested.
    """
    inspector = _Inspector(store.root)
    known = set(run_ids_of(store))
    for folder in (store.runs_folder, store.root / "sweeps"):
        if kind_of(folder) not in ("folder", "absent"):
            inspector.damage(folder, f"is a {kind_of(folder)}, not a folder", "all that it held")
    for path in entries_of(store.runs_folder):
        if path.name not in known:
            _note_stranger(inspector, path)
    for run_id in sorted(known):
        _inspect_run(inspector, store.run_folder(run_id), with_torch)
    num_sweeps = 0
    for folder in entries_of(store.root / "sweeps"):
        num_sweeps += _inspect_sweep(inspector, folder, known)
    return Findings(len(known), num_sweeps, tuple(inspector.damages), tuple(inspector.notes))


def verify_run(store: Store, run_id: str, *, with_torch: bool = False) -> tuple[Damage, ...]:
    """Return what is damaged in one run."""
    inspector = _Inspector(store.root)
    _inspect_run(inspector, store.run_folder(run_id), with_torch)
    return tuple(inspector.damages)


def verify_sweep(store: Store, name: str) -> tuple[Damage, ...]:
    """Return what is damaged in one sweep's own files."""
    inspector = _Inspector(store.root)
    _inspect_sweep(inspector, store.root / "sweeps" / name, set())
    return tuple(inspector.damages)


def _note_stranger(inspector: _Inspector, path: Path) -> None:
    """Say that a file has no place here: left by a kill while it was written, or foreign."""
    hidden = path.name.startswith(".")
    what = "was left by a process that was killed" if hidden else "belongs to no release of this"
    inspector.note(path, f"{what}; it is not read, and can be removed.")


def _inspect_run(inspector: _Inspector, folder: Path, with_torch: bool) -> None:
    if kind_of(folder) != "folder":
        what = f"is a {kind_of(folder)}, not a folder"
        inspector.damage(folder, what, f"the run; {TRAIN_AGAIN}")
        return
    for path in entries_of(folder):
        kind = kind_of(path)
        if kind == "link" or (path.name == LOCK and kind != "file"):
            inspector.damage(path, f"is a {kind}; it is not followed", TRAIN_AGAIN)
        elif path.name not in (*RUN_FILES, *RUN_FOLDERS):
            _note_stranger(inspector, path)
        elif path.name in RUN_FOLDERS and kind != "folder":
            inspector.damage(path, f"is a {kind}, not a folder", TRAIN_AGAIN)
    spec = inspector.check(
        folder / "spec.json",
        lambda: read_spec(folder),
        "the run is not used until its sweep is started again, which writes the file anew; "
        "if it goes on describing another run, remove it",
    )
    if spec is None:
        return  # what the other files should hold follows from the spec
    result = inspector.check(
        folder / "result.json",
        lambda: checked_result(folder, spec),
        f"{spec.epochs} epochs of training; {TRAIN_AGAIN}",
    )
    is_done = kind_of(folder / "result.json") != "absent"
    records = inspector.check(
        folder / "epochs.jsonl",
        lambda: checked_epochs(folder, spec, is_done),
        "the training curve; the result stands"
        if is_done
        else f"the epochs trained so far; {TRAIN_AGAIN}",
    )
    if result is not None and records is not None:
        inspector.check(
            folder / "result.json",
            lambda: check_agreement(result, records),
            f"trust in the result; {TRAIN_AGAIN}",
        )
    _inspect_manifest(inspector, folder, is_done)
    if kind_of(folder / "error.txt") != "absent":
        inspector.check(
            folder / "error.txt",
            lambda: read_bytes(folder / "error.txt"),
            "the reason of a failure; start the sweep with --retry-failed",
        )
    _inspect_checkpoints(inspector, folder, spec, records, is_done, with_torch)
    for path in entries_of(folder / "samples"):
        if path.name.startswith("."):
            _note_stranger(inspector, path)
            continue
        inspector.check(
            path,
            functools.partial(check_samples, path),
            "a few predictions to look at; remove the file",
        )


def _inspect_checkpoints(
    inspector: _Inspector,
    folder: Path,
    spec: RunSpec,
    records: Sequence[EpochRecord] | None,
    is_done: bool,
    with_torch: bool,
) -> None:
    costs = {
        "weights.pt": "the trained network, not its result; to have it, " + TRAIN_AGAIN,
        "latest.pt": "nothing: the run is done; remove the file"
        if is_done
        else f"the epochs trained so far; {TRAIN_AGAIN}",
    }
    for path in entries_of(folder / "checkpoint"):
        if path.name.startswith("."):
            _note_stranger(inspector, path)
            continue
        epoch = inspector.check(
            path,
            functools.partial(
                check_checkpoint, path, folder.name, spec.epochs, with_torch=with_torch
            ),
            costs.get(path.name, "the network as it was after that epoch; remove the file"),
        )
        is_behind = epoch is not None and epoch > len(records or ())
        # A run under way has gone on since its records were read.
        if path.name == "latest.pt" and is_behind and not is_locked(folder):
            inspector.damage(
                path,
                f"is of epoch {epoch}, of which epochs.jsonl holds {len(records or ())}",
                f"the records of the epochs between; {TRAIN_AGAIN}",
            )


def _inspect_manifest(inspector: _Inspector, folder: Path, is_done: bool) -> None:
    path = folder / "manifest.json"
    if is_done or kind_of(path) != "absent":
        inspector.check(
            path,
            lambda: check_manifest(path, is_done),
            "how the run was made (versions, hardware, data, seconds) and the use of its weights; "
            + ("the result stands" if is_done else "it is written anew when the run goes on"),
        )


def _inspect_sweep(inspector: _Inspector, folder: Path, known: set[str]) -> bool:
    """Look at a sweep's own files; return whether it is one."""
    try:
        check_sweep_name(folder.name)
    except ValueError:
        _note_stranger(inspector, folder)
        return False
    if kind_of(folder) != "folder":
        what = f"is a {kind_of(folder)}, not a folder"
        inspector.damage(folder, what, "the sweep's plan; no run: remove it, start the sweep again")
        return False
    plan = _inspect_plan(inspector, folder)
    absent = set(plan.run_ids) - known if plan is not None and known else set()
    if plan is not None and absent:
        runs = "1 run" if len(absent) == 1 else f"{len(absent)} runs"
        inspector.note(
            folder, f"plans {runs} that the store does not hold; {plan.about_absent(len(absent))}."
        )
    _inspect_lines(
        inspector, folder / "events.jsonl", "some of the sweep's history; no run", may_go_on=True
    )
    _inspect_lines(inspector, folder / "decisions.jsonl", CHOOSE_AGAIN, may_go_on=False)
    path = folder / "status.json"
    if kind_of(path) != "absent":
        inspector.check(path, lambda: check_status(path), "what watch shows; it is written anew")
    _inspect_lease(inspector, folder / "lease.json")
    return True


def _inspect_plan(inspector: _Inspector, folder: Path) -> PlanFile | None:
    costs = "which runs the sweep asked for; no run: "
    path = folder / "plan.json"
    try:
        return parse_plan(read_object(path))
    except PlanFileError as error:
        inspector.damage(path, f"holds {error}", costs + error.remedy)
    except UnreadableError as error:
        inspector.damage(path, str(error), costs + DAMAGED_REMEDY)
    except OSError as error:
        inspector.damage(path, f"cannot be read ({error.strerror})", costs + DAMAGED_REMEDY)
    return None


def _inspect_lease(inspector: _Inspector, path: Path) -> None:
    if kind_of(path) == "absent":
        return
    data = inspector.check(path, lambda: read_bytes(path), "no run: remove it")
    if data is None:
        return
    try:
        parse_lease(data, path.name)
    except DamagedLeaseError:
        inspector.damage(path, "is no whole lease", "nothing: the next start writes it anew")
    except StoreError:
        inspector.damage(
            path,
            "is of another release",
            "no run: start the sweep with that release, or remove the file once no driver of the "
            "sweep runs",
        )


def check_status(path: Place) -> dict[str, Any]:
    """Return what a sweep's status.json holds.

    Raises:
        AbsentError: if there is none.
        UnreadableError: if it is damaged or of another schema.
    """
    held = read_object(path)
    if held.get("schema") != 1:
        raise UnreadableError(f"is of schema {held.get('schema')!r}, not 1")
    if not isinstance(held.get("state"), str) or not isinstance(held.get("updated"), str):
        raise UnreadableError("holds no state and time")
    if not all(is_count(held.get(name)) for name in STATUS_COUNTS):
        raise UnreadableError(f"has no counts {', '.join(STATUS_COUNTS)}")
    if not is_vector(held.get("expected_seconds_left"), 2):
        raise UnreadableError("has no expected_seconds_left")
    running = held.get("running")
    if not isinstance(running, list) or not all(
        isinstance(run, dict) and isinstance(run.get("run_id"), str) and is_count(run.get("epoch"))
        for run in running
    ):
        raise UnreadableError("has no list of running runs")
    return held


def _inspect_lines(inspector: _Inspector, path: Path, cost: str, *, may_go_on: bool) -> None:
    """Look at a file of JSON lines; a torn last line is what a kill leaves, and no damage.

    Args:
        inspector: told what is found.
        path: of the file.
        cost: of damage.
        may_go_on: whether a start writes on after a torn line, so that it may be any line.
    """
    held = b""
    if kind_of(path) != "absent":
        held = inspector.check(path, lambda: read_bytes(path), cost) or b""
    lines = held.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            is_object = isinstance(parse_json(line), dict)
        except UnreadableError as error:
            if may_go_on or number == len(lines):  # nothing ended the last one
                inspector.note(path, f"has a torn line {number}, as a kill leaves it.")
                continue
            inspector.damage(path, f"has a line {number} that {error}", cost)
            return
        if not is_object:
            inspector.damage(path, f"has no object in line {number}", cost)
            return
