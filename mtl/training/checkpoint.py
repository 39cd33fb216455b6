"""Checkpoints: all that a run needs to go on as if it had never stopped, written atomically.

They are written by a thread while the run goes on. Random streams are functions of (seed, epoch),
so no generator is stored. Files are read with `weights_only=True`: an untrusted checkpoint can hold
tensors and plain values, nothing else.
"""

import contextlib
import copy
import io
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from mtl.errors import StoreError, StoreUnreachableError
from mtl.records import (
    CHECKPOINT_SCHEMA,
    LATEST,
    WEIGHTS,
    WEIGHTS_SCHEMA,
    TaskMetrics,
)
from mtl.spec.tasks import declared_task
from mtl.store import Store
from mtl.training.ranks import ALONE, Ranks

Keep = Literal["none", "final", "last", "all"]
"""What stays of a finished run's checkpoints; see `mtl.spec.Runtime`."""


Trained = Mapping[str, Any]
"""`network`, `weighting` and `optimizer`: what changes while a run is trained."""


@dataclass(frozen=True)
class Selected:
    """The best epoch so far, for runs that are selected on validation."""

    epoch: int
    metrics: TaskMetrics
    """Of the validation split."""
    network: dict[str, torch.Tensor]
    """Its weights: the `state_dict` of the network after that epoch, on the CPU."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    epoch: int = 0
    """Epochs finished."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Clocks that go on after a resume."""
    selected: Selected | None = None


def _to_bytes(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _from_bytes(
    data: bytes, place: str, device: torch.device, schema: int, remedy: str
) -> dict[str, Any]:
    try:
        content = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise StoreError(
            f"Expected a checkpoint in {place}, got a damaged file ({type(error).__name__}). "
            f"{remedy}"
        ) from error
    if not isinstance(content, dict) or content.get("schema") != schema:
        raise StoreError(
            f"Expected a checkpoint of schema {schema} in {place}, got another. "
            "Use the release that wrote it, or remove the file."
        )
    return content


MAX_WRITING_SHARE = 0.05
"""Of a run's time, that the thread may write: where that takes long, checkpoints are further
apart."""


class CheckpointWriter:
    """Writes the checkpoints of a run in a thread, so that training does not wait for the store.

    After each epoch `take` copies the state where it lies, on a GPU too. The copy is handed to the
    thread if the last one was handed over `seconds` ago or more, and is else kept until the next
    epoch replaces it. Leaving this as a context manager writes the newest copy, whether the run
    has ended, pauses, is stopped or failed; after it nothing writes any more. What the thread
    raises is raised by the next call.

    Args:
        store: of the run.
        run_id: of the run.
        keep: "all" keeps the checkpoint of every epoch beside the latest.
        seconds: between two checkpoints at least; 0 writes one after each epoch and waits for it,
            as `keep` "all" does.
        device: of the state.
    """

    def __init__(
        self, store: Store, run_id: str, keep: Keep, seconds: float, device: torch.device
    ) -> None:
        self._store, self._run_id, self._keep = store, run_id, keep
        self._seconds, self._device = seconds, device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._newest: tuple[dict[str, Any], torch.cuda.Event | None] | None = None
        """A copy that was not handed to the thread, and what tells that it is complete."""
        self._writing: Future[None] | None = None
        self._began, self._took = time.monotonic(), 0.0

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Write the newest state; then the thread is idle, however this ends.

        After an error of the store nothing more is written: it would only be met again.
        """
        try:
            if error is None:
                self.flush()
            elif not isinstance(error, StoreError | StoreUnreachableError):
                with contextlib.suppress(Exception):  # the first error is the one to know
                    self.flush()
        finally:
            self._wait()
            self._thread.shutdown()

    def take(self, progress: Progress, trained: Trained) -> None:
        """Take the state after an epoch.

        Raises:
            Exception: what writing an earlier one raised.
        """
        if self._writing is not None and self._writing.done():
            self._writing.result()
        content = {
            "schema": CHECKPOINT_SCHEMA,
            "run_id": self._run_id,  # a checkpoint that was copied to another run is refused
            "epoch": progress.epoch,
            "seconds": progress.seconds,
            "selected": None if progress.selected is None else vars(progress.selected),
        }
        for name, part in trained.items():
            content[name] = _with_tensors(part.state_dict(), lambda held: held.detach().clone())
        copied = torch.cuda.current_stream(self._device).record_event() if self._on_gpu else None
        self._newest = (content, copied)
        if self._seconds == 0 or self._keep == "all":
            self.flush()
        elif self._is_due():
            self._hand_over()

    def flush(self) -> None:
        """Return once the newest state is written.

        Raises:
            Exception: what writing it, or one before, raised.
        """
        self._wait()
        if self._writing is not None:
            self._writing.result()
        if self._newest is not None:
            self._hand_over()
            self.flush()

    @property
    def _on_gpu(self) -> bool:
        return self._device.type == "cuda"

    def _is_due(self) -> bool:
        least = max(self._seconds, self._took / MAX_WRITING_SHARE)
        is_idle = self._writing is None or self._writing.done()
        return is_idle and time.monotonic() - self._began >= least

    def _hand_over(self) -> None:
        if self._newest is not None:
            newest, self._newest = self._newest, None
            self._began = time.monotonic()
            self._writing = self._thread.submit(self._write, *newest)

    def _wait(self) -> None:
        """Wait for the thread. An interruption waits too: the run's lock must outlast the write."""
        interruption: BaseException | None = None
        while self._writing is not None and not self._writing.done():
            try:
                wait([self._writing])
            except BaseException as error:
                interruption = error
        if interruption is not None:
            raise interruption

    def _write(self, content: dict[str, Any], copied: torch.cuda.Event | None) -> None:
        began = time.monotonic()
        if copied is not None:
            # On a stream of its own: the copies to main memory do not queue behind training steps.
            stream = torch.cuda.Stream(self._device)
            stream.wait_event(copied)
            with torch.cuda.stream(stream):
                content = _with_tensors(content, lambda held: held.cpu())
        data = _to_bytes(content)
        if self._keep == "all":
            name = f"epoch_{content['epoch']:05d}.pt"
            self._store.write(_key(self._store, self._run_id, name), data)
        self._store.write_large(_key(self._store, self._run_id, LATEST), data)
        self._took = time.monotonic() - began


def _with_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy of a state dict's nested values with each tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        changed = copy.copy(value)  # with what a module's state has beside its entries: versions
        for name, part in value.items():
            changed[name] = _with_tensors(part, change)
        return changed
    if isinstance(value, list | tuple):
        return type(value)(_with_tensors(part, change) for part in value)
    return value


def _key(store: Store, run_id: str, name: str) -> str:
    return store.run_key(run_id, "checkpoint", name)


def load_checkpoint(
    store: Store, run_id: str, trained: Trained, device: torch.device, ranks: Ranks = ALONE
) -> Progress:
    """Bring `trained` to the state of the latest checkpoint, if there is one; return how far it is.

    The first of several ranks reads it for all.

    Raises:
        StoreError: if the checkpoint is damaged, of another schema or of another run.
    """
    key = _key(store, run_id, LATEST)

    def read() -> bytes | None:
        try:
            return store.read_large(key)
        except FileNotFoundError:
            return None

    data = ranks.from_first(read)
    if data is None:
        return Progress()
    remedy = "Remove the file to train the run from its first epoch."
    content = _from_bytes(data, store.place(key), device, CHECKPOINT_SCHEMA, remedy)
    if content["run_id"] != run_id:
        raise StoreError(
            f"Expected the checkpoint of run {run_id} in {store.place(key)}, got that of "
            f"{content['run_id']}. Remove the file."
        )
    for name, part in trained.items():
        state = content[name]
        if isinstance(part, torch.optim.Optimizer):
            # Its options follow from the spec and the device, which may be another one now: on a
            # GPU the learning rate is a tensor.
            state = {**state, "param_groups": part.state_dict()["param_groups"]}
        part.load_state_dict(state)
    held = content["selected"]
    selected = None if held is None else Selected(**held)
    return Progress(content["epoch"], content["seconds"], selected)


def save_weights(store: Store, run_id: str, network: nn.Module, keep: Keep) -> None:
    """Write the weights of a finished run unless nothing is to be kept."""
    if keep != "none":
        content = {"schema": WEIGHTS_SCHEMA, "run_id": run_id, "network": network.state_dict()}
        store.write(_key(store, run_id, WEIGHTS), _to_bytes(content))


def tidy_checkpoints(store: Store, run_id: str, keep: Keep) -> None:
    """Remove of a finished run's checkpoints what `keep` does not ask for."""
    if keep == "none":
        store.remove_folder(store.run_key(run_id, "checkpoint"))
    elif keep == "final":
        store.remove_large(_key(store, run_id, LATEST))


def load_weights(store: Store, run_id: str, network: nn.Module) -> None:
    """Load the weights of a finished run into `network`.

    Raises:
        StoreError: if they were not kept or are damaged.
    """
    key = _key(store, run_id, WEIGHTS)
    # A run that is done is never trained again, whatever becomes of its weights.
    remedy = (
        f"Remove the run (python -m mtl.store remove {store.place('')} --run {run_id}) and ask for "
        "it again with --keep final."
    )
    try:
        data = store.read(key)
    except FileNotFoundError as error:
        raise StoreError(
            f"Expected the weights of a finished run in {store.place(key)}, got no file. {remedy}"
        ) from error
    content = _from_bytes(data, store.place(key), torch.device("cpu"), WEIGHTS_SCHEMA, remedy)
    network.load_state_dict(content["network"])


SMALLEST_ERROR = 1e-12
"""Keeps the logarithm of a perfect task finite."""


def validation_error(metrics: TaskMetrics) -> float | None:
    """Return the geometric mean over the tasks of their errors, which knows no units.

    A task's error is its plotted metric where less is better, and where more is better what is
    missing to the highest value (1 of a share), or its reciprocal if there is no highest. None if
    no task could be measured.
    """
    errors = []
    for task, values in metrics.items():
        declared = declared_task(task)
        metric = declared.metric(declared.plotted)
        value = values[metric.name]
        if value is not None:
            if metric.direction == "min":
                errors.append(value)
            elif metric.high is not None:
                errors.append(metric.high - value)
            else:
                errors.append(1 / max(value, SMALLEST_ERROR))
    if not errors:
        return None
    logs = [math.log(max(error, SMALLEST_ERROR)) for error in errors]
    return math.exp(sum(logs) / len(logs))


def is_better(metrics: TaskMetrics, best: TaskMetrics | None) -> bool:
    """Return whether an epoch's validation metrics beat those of the best epoch before it.

    Of equal epochs the earlier stays; where nothing can be measured, the later counts.
    """
    if best is None:
        return True
    error, least = validation_error(metrics), validation_error(best)
    if error is None or least is None:
        return True
    return error < least
