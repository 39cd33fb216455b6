"""The run store: a folder or a prefix on object storage; no torch.

    STORE/store.json                    schema of the store
    STORE/runs/<run_id>/spec.json       the full spec
                        epochs.jsonl    one line an epoch
                        manifest.json   code version, environment, data, hardware, seconds
                        result.json     written last: its presence means done
                        error.txt       the last failure, if any
                        checkpoint/     of a run under way; once done, the weights
                        samples/        predictions on a few validation images
    STORE/sweeps/<name>/                plan, events, lease and report of a sweep

A reader never sees half a file. In a folder every file is written beside its place and renamed,
and a run is trained by one process at a time: `Store.run_lock` is a lock of the operating system,
so it goes with the process that held it, however that one ended. docs/stores.md says what holds on
object storage.
"""

import contextlib
import json
import re
import runpy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mtl.lease import StaleLeaseError, SweepBusyError
from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec
from mtl.storage import StoreError, StoreUnreachableError, parse_json, write_atomically
from mtl.store_files import StoreFiles, is_address, json_bytes

__all__ = [
    "RunBusyError",
    "StaleLeaseError",
    "Store",
    "StoreError",
    "StoreUnreachableError",
    "SweepBusyError",
    "check_sweep_name",
    "is_address",
    "read_json",
    "write_atomically",
    "write_json",
]

MANIFEST_SCHEMA = 1
"""Version of manifest.json."""

_RUN_ID = re.compile(r"[0-9a-f]{16}")
_SWEEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class RunBusyError(StoreError):
    """Another process is training this run right now."""


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as strict JSON (NaN and infinity are refused)."""
    write_atomically(path, json_bytes(value))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        StoreError: if it does not parse.
    """
    return parse_json(path.read_bytes(), str(path))


def check_sweep_name(name: str) -> str:
    """Return `name`; raise a `ValueError` unless it can be a folder of the store."""
    if not _SWEEP_NAME.fullmatch(name):
        raise ValueError(
            "Expected a sweep name of letters, digits, '.', '_' and '-' that starts with a "
            f"letter or digit, got {name!r}. Give another one with --name."
        )
    return name


class Store(StoreFiles):
    """Runs and sweeps in a folder or on object storage; see `StoreFiles` for its arguments."""

    def run_key(self, run_id: str, *names: str) -> str:
        """Return the key of a run, or of something below it."""
        if not _RUN_ID.fullmatch(run_id):
            raise StoreError(f"Expected a run id of 16 hexadecimal digits, got {run_id!r}.")
        return "/".join(("runs", run_id, *names))

    def sweep_key(self, name: str, *names: str) -> str:
        """Return the key of a sweep, or of something below it."""
        return "/".join(("sweeps", check_sweep_name(name), *names))

    @property
    def runs_folder(self) -> Path:
        """Return the folder of a local store that holds a folder for each run."""
        return self._local_path("runs")

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run of a local store, whether or not it exists."""
        return self._local_path(self.run_key(run_id))

    def sweep_folder(self, name: str) -> Path:
        """Return the folder of a sweep of a local store, whether or not it exists."""
        return self._local_path(self.sweep_key(name))

    def checkpoint_folder(self, run_id: str) -> Path:
        """Return the folder of a run's checkpoints in a local store, whether or not it exists."""
        return self._local_path(self.run_key(run_id, "checkpoint"))

    def samples_folder(self, run_id: str) -> Path:
        """Return the folder of a run's samples in a local store, whether or not it exists."""
        return self._local_path(self.run_key(run_id, "samples"))

    def run_ids(self) -> list[str]:
        """Return the ids of all runs that were ever started, sorted."""
        return [name for name in self.names("runs") if _RUN_ID.fullmatch(name)]

    def sweep_names(self) -> list[str]:
        """Return the names of all sweeps that have a plan, sorted."""
        return [
            name
            for name in self.names("sweeps")
            if _SWEEP_NAME.fullmatch(name) and self._files.exists(f"sweeps/{name}/plan.json")
        ]

    def has_run(self, run_id: str) -> bool:
        """Return whether anything of the run is there."""
        if self.is_local:
            return self.run_folder(run_id).is_dir()
        return bool(self.names(self.run_key(run_id)))

    def has_checkpoint(self, run_id: str) -> bool:
        """Return whether the run has a checkpoint or weights."""
        names = self.names(self.run_key(run_id, "checkpoint"))
        return any(not name.startswith(".") for name in names)

    def is_done(self, run_id: str) -> bool:
        """Return whether the run has a result that can be read; a damaged one is none."""
        try:
            return self.result(run_id) is not None
        except StoreError:
            return False

    def done(self, run_ids: Iterable[str]) -> set[str]:
        """Return those of `run_ids` that have a result that can be read."""
        asked = list(run_ids)
        answers = self.for_each(self.is_done, asked)
        return {run_id for run_id, is_done in zip(asked, answers, strict=True) if is_done}

    @contextlib.contextmanager
    def run_lock(self, run_id: str) -> Iterator[None]:
        """Hold the run for this process while it is trained; on object storage, on this machine.

        Raises:
            RunBusyError: if another process holds it.
        """
        with self.locked_file(self.run_key(run_id)) as file:
            if file is None:
                holder = self.lock_holder(self.run_key(run_id))
                raise RunBusyError(
                    f"Run {run_id} is being trained by another process"
                    f"{f' ({holder})' if holder else ''}. Wait for it or stop it."
                )
            yield

    def write_spec(self, spec: RunSpec) -> str:
        """Write `spec.json` of a run unless it is there, whole; return the run id."""
        run_id = spec.run_id()
        key = self.run_key(run_id, "spec.json")
        try:
            held = self.read_json(key)
        except (FileNotFoundError, StoreError):
            held = None
        if held != spec.to_dict():
            self.write_json(key, spec.to_dict())
        return run_id

    def spec(self, run_id: str) -> RunSpec:
        """Return a run's spec."""
        return RunSpec.from_dict(self.read_json(self.run_key(run_id, "spec.json")))

    def write_epochs(self, run_id: str, records: Iterable[EpochRecord]) -> None:
        """Write all epoch records of a run, replacing those that are there."""
        lines = [json.dumps(record.to_dict(), allow_nan=False) + "\n" for record in records]
        self.write_log(self.run_key(run_id, "epochs.jsonl"), [line.encode() for line in lines])

    def epochs(self, run_id: str) -> list[EpochRecord]:
        """Return the epoch records of a run, the first epoch first; empty if there are none."""
        key = self.run_key(run_id, "epochs.jsonl")
        try:
            lines = self.read_log(key).splitlines()
        except FileNotFoundError:
            return []
        try:
            return [EpochRecord(**json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"Expected epoch records in {self.place(key)}, got others ({error}). Use the "
                f"release that wrote them; if they are damaged, remove "
                f"{self.place(self.run_key(run_id))} to train the run again."
            ) from error

    def write_result(self, result: Result) -> None:
        """Write `result.json`, after which the run is done, and drop an earlier failure."""
        self.write_json(self.run_key(result.run_id, "result.json"), result.to_dict())
        self.clear_error(result.run_id)

    def result(self, run_id: str) -> Result | None:
        """Return a run's result, or None while it is not done.

        Raises:
            StoreError: if the file is damaged or of another schema.
        """
        key = self.run_key(run_id, "result.json")
        try:
            return Result.from_dict(self.read_json(key))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(f"{self.place(key)}: {error}") from error

    def write_manifest(self, run_id: str, manifest: dict[str, Any]) -> None:
        """Write `manifest.json`: everything about a run that does not enter its identity."""
        self.write_json(self.run_key(run_id, "manifest.json"), manifest)

    def manifest(self, run_id: str) -> dict[str, Any] | None:
        """Return a run's manifest, or None if there is none yet.

        Raises:
            StoreError: if the file is damaged or of another schema.
        """
        key = self.run_key(run_id, "manifest.json")
        try:
            held = self.read_json(key)
        except FileNotFoundError:
            return None
        schema = held.get("schema", MANIFEST_SCHEMA) if isinstance(held, dict) else None
        if schema != MANIFEST_SCHEMA:
            raise StoreError(
                f"Expected a manifest of schema {MANIFEST_SCHEMA} in {self.place(key)}, got "
                f"{schema!r}. Use the release that wrote it."
            )
        return dict(held)

    def write_error(self, run_id: str, text: str) -> None:
        """Write the last failure of a run."""
        self.write(self.run_key(run_id, "error.txt"), (text.rstrip() + "\n").encode())

    def clear_error(self, run_id: str) -> None:
        """Forget the last failure of a run, so that it is tried again."""
        self.remove(self.run_key(run_id, "error.txt"))

    def error(self, run_id: str) -> str | None:
        """Return the last failure of a run, or None."""
        try:
            return self.read(self.run_key(run_id, "error.txt")).decode(errors="replace")
        except FileNotFoundError:
            return None


if __name__ == "__main__":
    # Run, not imported: reading a store needs none of what looks after it.
    runpy.run_module("mtl.care.command", run_name="__main__")
