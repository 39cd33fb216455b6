"""The run store: one folder a run, every file written beside its place and renamed; no torch.

    STORE/store.json                    schema of the store
    STORE/runs/<run_id>/spec.json       the full spec
                        epochs.jsonl    one line an epoch
                        manifest.json   code version, environment, data, hardware, seconds
                        result.json     written last: its presence means done
                        error.txt       the last failure, if any
                        checkpoint/     of a run under way; once done, the weights
    STORE/sweeps/<name>/                plan, events and report of a sweep

A reader never sees half a file. A run is trained by one process at a time: `Store.run_lock` is a
lock of the operating system, so it goes with the process that held it, however that one ended.
"""

import contextlib
import fcntl
import json
import os
import re
import runpy
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec

STORE_SCHEMA = 1
"""Version of the folder layout above."""

_RUN_ID = re.compile(r"[0-9a-f]{16}")
_SWEEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class StoreError(Exception):
    """A store that cannot be used, in one sentence for its user."""


class RunBusyError(StoreError):
    """Another process is training this run right now."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, flush it to disk and rename it into place."""
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as strict JSON (NaN and infinity are refused)."""
    write_atomically(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        StoreError: if it does not parse.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise StoreError(
            f"Expected JSON in {path}, got a damaged file ({error}). Remove the file."
        ) from error


def check_sweep_name(name: str) -> str:
    """Return `name`; raise a `ValueError` unless it can be a folder of the store."""
    if not _SWEEP_NAME.fullmatch(name):
        raise ValueError(
            "Expected a sweep name of letters, digits, '.', '_' and '-' that starts with a "
            f"letter or digit, got {name!r}. Give another one with --name."
        )
    return name


class Store:
    """A local folder of runs and sweeps.

    Args:
        root: the folder.
        create: make it (and check that it can be written) instead of only reading it.

    Raises:
        StoreError: if `root` is a file, an address of object storage, not writable, absent while
            `create` is False, or of another schema.
    """

    def __init__(self, root: str | Path, *, create: bool = True) -> None:
        """Open the store at `root`."""
        if "://" in str(root):
            raise StoreError(
                f"Expected a local folder for the store, got {str(root)!r}. Object storage is not "
                "supported by this release; give a folder on a shared file system."
            )
        self.root = Path(root).expanduser().absolute()
        try:
            self._open(create)
        except OSError as error:
            raise StoreError(
                f"Expected a folder that can be written, got {self.root} "
                f"({error.strerror}). Give another one with --store."
            ) from error

    def _open(self, create: bool) -> None:
        marker = self.root / "store.json"
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(
                f"Expected a folder for the store, got the file {self.root}. "
                "Give another one with --store."
            )
        if marker.exists():
            try:
                held = read_json(marker)
            except StoreError as error:
                raise StoreError(
                    f"Expected JSON in {marker}, got a damaged file. If this release wrote the "
                    f'store, write {{"schema": {STORE_SCHEMA}}} into it.'
                ) from error
            schema = held.get("schema") if isinstance(held, dict) else None
            if schema != STORE_SCHEMA:
                raise StoreError(
                    f"Expected a store of schema {STORE_SCHEMA}, got schema {schema!r} in "
                    f"{self.root}. Use the release that wrote it, or another --store."
                )
        elif not create:
            raise StoreError(
                f"Expected a run store, got {self.root}, which holds no store.json. "
                "Give the folder that a sweep wrote."
            )
        elif self.root.exists() and any(self.root.iterdir()):
            raise StoreError(
                f"Expected a run store or an empty folder, got {self.root}, which holds other "
                "things. Give another one with --store."
            )
        if create:
            for folder in (self.root, self.runs_folder, self.root / "sweeps"):
                folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                """Proves that the folder can be written before anything is trained."""
            if not marker.exists():
                write_json(marker, {"schema": STORE_SCHEMA})

    @property
    def runs_folder(self) -> Path:
        """Return the folder that holds a folder for each run."""
        return self.root / "runs"

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run, whether or not it exists."""
        if not _RUN_ID.fullmatch(run_id):
            raise StoreError(f"Expected a run id of 16 hexadecimal digits, got {run_id!r}.")
        return self.runs_folder / run_id

    def sweep_folder(self, name: str) -> Path:
        """Return the folder of a sweep, whether or not it exists."""
        return self.root / "sweeps" / check_sweep_name(name)

    def checkpoint_folder(self, run_id: str) -> Path:
        """Return the folder of a run's checkpoints, whether or not it exists."""
        return self.run_folder(run_id) / "checkpoint"

    def samples_folder(self, run_id: str) -> Path:
        """Return the folder of a run's sample predictions, whether or not it exists."""
        return self.run_folder(run_id) / "samples"

    def run_ids(self) -> list[str]:
        """Return the ids of all runs that were ever started, sorted."""
        if not self.runs_folder.is_dir():
            return []
        return sorted(p.name for p in self.runs_folder.iterdir() if _RUN_ID.fullmatch(p.name))

    def is_done(self, run_id: str) -> bool:
        """Return whether the run has a result that can be read; a damaged one is none."""
        try:
            return self.result(run_id) is not None
        except StoreError:
            return False

    def done(self, run_ids: Iterable[str]) -> set[str]:
        """Return those of `run_ids` that have a result that can be read."""
        return {run_id for run_id in run_ids if self.is_done(run_id)}

    @contextlib.contextmanager
    def run_lock(self, run_id: str) -> Iterator[None]:
        """Hold the run for this process while it is trained.

        Raises:
            RunBusyError: if another process holds it.
        """
        folder = self.run_folder(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read().strip()
                raise RunBusyError(
                    f"Run {run_id} is being trained by another process"
                    f"{f' ({holder})' if holder else ''}. Wait for it or stop it."
                ) from error
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
            file.flush()
            yield

    def write_spec(self, spec: RunSpec) -> str:
        """Write `spec.json` of a run unless it is there, whole; return the run id."""
        run_id = spec.run_id()
        path = self.run_folder(run_id) / "spec.json"
        try:
            held = read_json(path)
        except (FileNotFoundError, StoreError):
            held = None
        if held != spec.to_dict():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, spec.to_dict())
        return run_id

    def spec(self, run_id: str) -> RunSpec:
        """Return a run's spec."""
        return RunSpec.from_dict(read_json(self.run_folder(run_id) / "spec.json"))

    def write_epochs(self, run_id: str, records: Iterable[EpochRecord]) -> None:
        """Write all epoch records of a run, replacing those that are there."""
        lines = [json.dumps(record.to_dict(), allow_nan=False) + "\n" for record in records]
        write_atomically(self.run_folder(run_id) / "epochs.jsonl", "".join(lines).encode())

    def epochs(self, run_id: str) -> list[EpochRecord]:
        """Return the epoch records of a run, the first epoch first; empty if there are none."""
        path = self.run_folder(run_id) / "epochs.jsonl"
        if not path.exists():
            return []
        try:
            return [EpochRecord(**json.loads(line)) for line in path.read_text().splitlines()]
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"Expected epoch records in {path}, got others ({error}). Use the release that "
                f"wrote them; if they are damaged, remove {path.parent} to train the run again."
            ) from error

    def write_result(self, result: Result) -> None:
        """Write `result.json`, after which the run is done, and drop an earlier failure."""
        folder = self.run_folder(result.run_id)
        write_json(folder / "result.json", result.to_dict())
        (folder / "error.txt").unlink(missing_ok=True)

    def result(self, run_id: str) -> Result | None:
        """Return a run's result, or None while it is not done.

        Raises:
            StoreError: if the file is damaged or of another schema.
        """
        path = self.run_folder(run_id) / "result.json"
        if not path.exists():
            return None
        try:
            return Result.from_dict(read_json(path))
        except ValueError as error:
            raise StoreError(f"{path}: {error}") from error

    def write_manifest(self, run_id: str, manifest: dict[str, Any]) -> None:
        """Write `manifest.json`: everything about a run that does not enter its identity."""
        write_json(self.run_folder(run_id) / "manifest.json", manifest)

    def manifest(self, run_id: str) -> dict[str, Any] | None:
        """Return a run's manifest, or None if there is none yet."""
        path = self.run_folder(run_id) / "manifest.json"
        return read_json(path) if path.exists() else None

    def write_error(self, run_id: str, text: str) -> None:
        """Write the last failure of a run."""
        folder = self.run_folder(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "error.txt", (text.rstrip() + "\n").encode())

    def clear_error(self, run_id: str) -> None:
        """Forget the last failure of a run, so that it is tried again."""
        (self.run_folder(run_id) / "error.txt").unlink(missing_ok=True)

    def error(self, run_id: str) -> str | None:
        """Return the last failure of a run, or None."""
        path = self.run_folder(run_id) / "error.txt"
        return path.read_text() if path.exists() else None


if __name__ == "__main__":
    # Run, not imported: reading a store needs none of what looks after it.
    runpy.run_module("mtl.care.command", run_name="__main__")
