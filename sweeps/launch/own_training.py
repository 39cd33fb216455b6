"""A training function of one's own as a run of the store: `train_own`, beside `mtl.training.fit`.

The function is an ordinary one of Ray Tune. Each of its reports becomes an epoch record, what it
saves a checkpoint of the run, from which it goes on after a stop, and its last report the result.
"""

import contextlib
import importlib.metadata
import inspect
import io
import json
import math
import platform
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Checkpoint

from analysis.load.metrics import column_names, known_columns, metric_column
from mtl.errors import (
    RunFailedError,
    StoreError,
    StoreUnreachableError,
    UsageError,
    printable,
    raised,
)
from mtl.records import EpochRecord, Result, SplitMetrics, TaskMetrics
from mtl.spec import NUMERICS_VERSION, OwnSpec, Runtime
from mtl.spec.code import check_code, code_path, load_object
from mtl.store import Store
from mtl.store.code_version import code_version
from mtl.store.lease import StaleLeaseError
from mtl.store.store import MANIFEST_SCHEMA
from sweeps.launch.ray_private import reports_taken

LATEST = "latest.zip"
CHECKPOINT_SCHEMA = 1
VALIDATION = "validation_"
"""Begins the names of what is measured on validation data, where a function reports both."""
STATE, FILES = "state.json", "files/"
"""Members of a checkpoint: how far the run is, and what the function saved."""
LIBRARIES = ("ray", "torch", "numpy")
MISTAKES = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError,
    NotImplementedError, SyntaxError, TypeError, ValueError,
)  # fmt: skip
"""What a function raises that would raise it again; anything else may pass on a second try."""


def train_own(
    spec: OwnSpec, store: Store, runtime: Runtime, *, on_epoch: Callable[[EpochRecord], None]
) -> Result:
    """Call a training function in a Tune trial until it returns; return the result of its run.

    Args:
        spec: the run.
        store: where records, checkpoints and result go. A run that is done there is not trained.
        runtime: of which `keep` counts: which checkpoints stay.
        on_epoch: called after each report, once its checkpoint is written.

    Raises:
        RunFailedError: for a function that would fail again: it never reports, lacks a metric,
            reports what is no finite number, or raises one of `MISTAKES`.
        RunBusyError: if another process trains this run.
        UsageError: for a function that is not here, or not the planned one.
    """
    if spec.numerics_version != NUMERICS_VERSION:
        raise UsageError(
            f"Expected numerics_version {NUMERICS_VERSION}, got {spec.numerics_version}. "
            "Train it with the release that planned it."
        )
    run_id = store.write_spec(spec)
    with store.run_lock(run_id) as store:
        done = store.result(run_id)
        if done is not None:
            return done
        try:
            check_code(spec.code)
            function = load_object(spec.train, "training function")
            return _Run(spec, store, runtime, on_epoch).train(function)
        except (StaleLeaseError, StoreUnreachableError):
            raise  # the run is another's, or nothing can be written
        except Exception:
            store.write_error(run_id, traceback.format_exc())
            raise


@dataclass(frozen=True)
class _Reported:
    """What one report says."""

    test: TaskMetrics
    """What the run is judged by; empty where the report has no metric."""
    validation: TaskMetrics
    losses: list[float | None]
    weights: list[float | None] | None
    learning_rate: float | None


class _Run:
    """A running run: what it has reported, and where its reports go."""

    def __init__(
        self,
        spec: OwnSpec,
        store: Store,
        runtime: Runtime,
        on_epoch: Callable[[EpochRecord], None],
    ) -> None:
        self.spec, self.store, self.runtime, self.on_epoch = spec, store, runtime, on_epoch
        self.run_id = spec.run_id()
        self.names = {
            name: column for column, names in column_names(spec.metrics).items() for name in names
        }
        self.failure: BaseException | None = None
        """Of a report: a function that catches it must not go on as if nothing had happened."""
        self.last: _Reported | None = None

    def train(self, function: Callable[[dict[str, Any]], Any]) -> Result:
        """Go on from the last checkpoint, until the function returns."""
        store, run_id = self.store, self.run_id
        with tempfile.TemporaryDirectory(prefix="own-run-") as folder:
            epoch, seconds, checkpoint = self._checkpoint(Path(folder))
            records = store.epochs(run_id)
            if len(records) < epoch:
                raise StoreError(
                    f"Expected the records of {epoch} reports, which the checkpoint of run "
                    f"{run_id} has behind it, got {len(records)}. Remove "
                    f"{store.place(store.run_key(run_id))} to train the run again."
                )
            if len(records) > epoch:  # reported after the checkpoint, and so once more
                store.write_epochs(run_id, records[:epoch])
            self.epoch, self.started = epoch, time.monotonic() - seconds
            self.reported = time.monotonic()
            manifest = self._manifest()
            store.write_manifest(run_id, manifest)
            with reports_taken(self._take_safely, checkpoint):
                self._call(function)
        result = self._result()
        manifest["wall_seconds"] = time.monotonic() - self.started
        store.write_manifest(run_id, manifest)
        store.write_result(result)
        if self.runtime.keep == "none":
            store.remove_folder(store.run_key(run_id, "checkpoint"))
        return result

    def _call(self, function: Callable[[dict[str, Any]], Any]) -> None:
        """Call the function; what it returns or yields is a report, as for Tune."""
        try:
            output = function(self.spec.config)
            if inspect.isgenerator(output):
                for reported in output:
                    tune.report(reported)
            elif output:
                tune.report(output)
        except SystemExit as error:
            if self.failure is None:
                raise RunFailedError(
                    f"Expected {self.spec.train} to return, got sys.exit({error.code!r})."
                ) from error
        except MISTAKES as error:
            if self.failure is None:
                what = raised(error, map(code_path, self.spec.code))
                raise RunFailedError(f"Expected {self.spec.train} to train, got {what}.") from error
        if self.failure is not None:
            raise self.failure

    def _take_safely(self, metrics: dict[str, Any], checkpoint: Checkpoint | None) -> None:
        if self.failure is not None:
            raise self.failure
        try:
            self._take(metrics, checkpoint)
        except BaseException as error:
            self.failure = error
            raise

    def _take(self, metrics: dict[str, Any], checkpoint: Checkpoint | None) -> None:
        """Record a report, then what was saved with it, then tell Ray."""
        self.last = reported = self._read(metrics)
        self.epoch += 1
        validation = reported.validation or reported.test
        record = EpochRecord(
            epoch=self.epoch,
            losses=reported.losses,
            weights=reported.weights,
            loss_scales=None,
            difficulties=None,
            learning_rate=reported.learning_rate,
            metrics={"validation": validation},
            seconds=time.monotonic() - self.reported,
        )
        self.reported = time.monotonic()
        self.store.append_epoch(self.run_id, record)
        if checkpoint is not None:
            self._save(checkpoint)
        self.on_epoch(record)

    def _read(self, metrics: Any) -> _Reported:
        """Return what a report says; it has all the declared metrics, or none of them."""
        where = f"report {self.epoch + 1} of {self.spec.train}"
        if not isinstance(metrics, Mapping):
            raise RunFailedError(f"Expected a mapping in {where}, got {metrics!r:.100}.")
        flat = {str(name).replace("/", "_"): value for name, value in metrics.items()}
        test = self._metrics(flat, "", where)
        tasks = self.spec.tasks
        weights = [_number(flat.get(f"{task}_weight")) for task in tasks]
        return _Reported(
            test=test,
            validation=self._metrics(flat, VALIDATION, where),
            losses=[_number(flat.get(f"{task}_loss")) for task in tasks],
            weights=weights if any(w is not None for w in weights) else None,
            learning_rate=_number(flat.get("learning_rate")),
        )

    def _metrics(self, flat: Mapping[str, Any], prefix: str, where: str) -> TaskMetrics:
        found: dict[str, float] = {}
        for name, column in self.names.items():
            value = flat.get(f"{prefix}{name}")
            if value is not None and column not in found:
                found[column] = self._value(f"{prefix}{name}", column, value, where)
        lacking = [column for column in known_columns(self.spec.metrics) if column not in found]
        if not found:
            return {}
        if lacking:
            raise RunFailedError(
                f"Expected {', '.join(prefix + name for name in lacking)} in {where}, got "
                f"{_listed(flat)}. A report holds every metric of the sweep, or none."
            )
        return {
            task: {m.name: found[metric_column(task, m.name)] for m in held.metrics}
            for task, held in self.spec.metrics.items()
        }

    def _value(self, name: str, column: str, value: Any, where: str) -> float:
        number = _number(value)
        if number is None:
            raise RunFailedError(f"Expected a number for {name} in {where}, got {value!r:.100}.")
        problem = (
            "NaN"
            if math.isnan(number)
            else known_columns(self.spec.metrics)[column].problem(number)
        )
        if problem:
            raise RunFailedError(
                f"Expected a finite {name} within its range in {where}, got {problem}. Leave all "
                "metrics out of a report that measures none."
            )
        return number

    def _result(self) -> Result:
        wanted = ", ".join(known_columns(self.spec.metrics))
        if self.last is None:
            raise RunFailedError(
                f"Expected {self.spec.train} to report {wanted} with tune.report, got no report."
            )
        if not self.last.test:
            raise RunFailedError(
                f"Expected {wanted} in the last report of {self.spec.train}, got none of them."
            )
        metrics: SplitMetrics = {"test": self.last.test}
        if self.last.validation:
            metrics["validation"] = self.last.validation
        return Result(
            run_id=self.run_id,
            status="done",
            epochs=self.epoch,
            selection="last",
            selected_epoch=self.epoch,
            selected_metrics=metrics,
            final_metrics=metrics,
            declared=self.spec.metrics,
        )

    def _manifest(self) -> dict[str, Any]:
        earlier = self.store.manifest(self.run_id) or {}
        return {
            "schema": MANIFEST_SCHEMA,
            "code_version": code_version(),
            "environment": {
                "python": platform.python_version(),
                **_versions(),
                "platform": platform.platform(),
            },
            "hardware": {"cpu": platform.processor() or platform.machine()},
            "started_epochs": [*earlier.get("started_epochs", []), self.epoch + 1],
        }

    # Checkpoints.

    def _save(self, checkpoint: Checkpoint) -> None:
        seconds = time.monotonic() - self.started
        state = {
            "schema": CHECKPOINT_SCHEMA,
            "run_id": self.run_id,
            "epoch": self.epoch,
            "seconds": seconds,
        }
        with checkpoint.as_directory() as folder:
            data = packed(Path(folder), state)
        if self.runtime.keep == "all":
            name = f"epoch_{self.epoch:05d}.zip"
            self.store.write(self.store.run_key(self.run_id, "checkpoint", name), data)
        self.store.write_large(self.store.run_key(self.run_id, "checkpoint", LATEST), data)

    def _checkpoint(self, folder: Path) -> tuple[int, float, Checkpoint | None]:
        """Unpack the latest checkpoint to `folder`; return its report, seconds and itself."""
        key = self.store.run_key(self.run_id, "checkpoint", LATEST)
        try:
            data = self.store.read_large(key)
        except FileNotFoundError:
            return 0, 0.0, None
        place = self.store.place(key)
        state = unpacked(data, folder, place)
        if state.get("schema") != CHECKPOINT_SCHEMA or state.get("run_id") != self.run_id:
            raise StoreError(
                f"Expected the checkpoint of run {self.run_id} in {place}, got another. Remove "
                "the file to train the run from its beginning."
            )
        return state["epoch"], state["seconds"], Checkpoint(str(folder))


def packed(folder: Path, state: Mapping[str, Any]) -> bytes:
    """Return a zip of the files in a folder and of how far their run is; nothing is compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(STATE), json.dumps(state))
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = FILES + path.relative_to(folder).as_posix()
                archive.writestr(zipfile.ZipInfo(name), path.read_bytes())
    return buffer.getvalue()


def unpacked(data: bytes, folder: Path, place: str) -> dict[str, Any]:
    """Write the files that `packed` gathered to a folder; return how far their run is.

    Raises:
        StoreError: if the zip, which was read from `place`, is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            state = json.loads(archive.read(STATE))
            for name in archive.namelist():
                if not name.startswith(FILES):
                    continue
                target = folder / name.removeprefix(FILES)
                if not target.resolve().is_relative_to(folder.resolve()):
                    raise UsageError(f"{name!r} would lie elsewhere")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    except Exception as error:  # zipfile raises half a dozen types for damaged files
        raise StoreError(
            f"Expected a checkpoint in {place}, got a damaged file ({type(error).__name__}). "
            "Remove the file to train the run from its beginning."
        ) from error
    return state


def _number(value: Any) -> float | None:
    """Return a number as a float, also one of numpy or torch; None for what is none."""
    is_scalar = hasattr(value, "item") and math.prod(getattr(value, "shape", ())) == 1
    held = value.item() if is_scalar else value
    return float(held) if isinstance(held, int | float) and not isinstance(held, bool) else None


def _listed(names: Mapping[str, Any]) -> str:
    return printable(", ".join(names) or "nothing")


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found
