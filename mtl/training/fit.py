"""One training: `fit(spec, store)` trains, evaluates, records and can be stopped anywhere."""

import contextlib
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from mtl.data.batches import Batch, MappedSplit, Split, placed, training_batches
from mtl.data.manifest import data_info
from mtl.data.prepared import prepare
from mtl.errors import (
    RankLostError,
    RunFailedError,
    RunPausedError,
    StoreError,
    StoreUnreachableError,
    UsageError,
)
from mtl.records import PAUSED_AFTER, EpochRecord, Result, TaskMetrics
from mtl.spec import (
    NUMERICS_VERSION,
    SPLITS,
    RunSpec,
    Runtime,
    equal_priorities,
    forks_of,
    trunk_of,
)
from mtl.spec.code import check_code
from mtl.spec.sections import DataSpec
from mtl.store import Store
from mtl.store.lease import StaleLeaseError
from mtl.streams import global_stream
from mtl.tasks import derivations, task_of
from mtl.training.checkpoint import (
    CheckpointWriter,
    Progress,
    Selected,
    is_better,
    load_checkpoint,
    save_weights,
    tidy_checkpoints,
)
from mtl.training.evaluation import (
    device_of,
    evaluate,
    memory_format,
    new_network,
    set_arithmetic,
)
from mtl.training.graph import GraphedStepper, why_eager
from mtl.training.manifest import (
    network_size,
    new_manifest,
    peak_device_bytes,
    peak_memory_bytes,
    reset_peak_memory,
    weights_hash,
)
from mtl.training.mixed import mixed_network
from mtl.training.ranks import ALONE, Ranks, is_of_another_rank, present_ranks
from mtl.training.samples import samples_of
from mtl.training.step import EpochLog, Stepper, learning_rate_at
from mtl.weighting import build_weighting
from mtl.weighting.base import Prioritised

OnEpoch = Callable[[EpochRecord], None]


def fit(
    spec: RunSpec,
    store: Store,
    runtime: Runtime | None = None,
    *,
    on_epoch: OnEpoch | None = None,
) -> Result:
    """Train a run to its end and return its result; resume it if it was begun before.

    Where `torch.distributed` is in use, its processes train the run together: each calls this with
    the same spec, and the first alone writes to the store.

    Args:
        spec: what to train.
        store: where checkpoint, records and result go. A run that is done there is not trained.
        runtime: how to execute it; on the CPU the result is the same bit for bit for the same
            number of threads.
        on_epoch: called after each epoch, once it is recorded, by the first process.

    Raises:
        RunFailedError: if the run would fail again, such as a loss that is not finite.
        RunBusyError: if another process trains this run.
        StaleLeaseError: if the store's lease is no longer in force; the run is left as it is.
        StoreUnreachableError: if object storage fails for too long; the run can be resumed.
        RunPausedError: after the epoch `runtime.pause_after`; the manifest says so.
        RankLostError: if another process that trains the run with this one is gone.
        ValueError: if this code cannot compute the spec.
    """
    check_computable(spec)
    run_id, here, ranks = spec.run_id(), runtime or Runtime(), present_ranks()
    with contextlib.ExitStack() as stack:

        def hold() -> Result | None:
            nonlocal store
            store.write_spec(spec)
            store = stack.enter_context(store.run_lock(run_id))
            return finished(store, run_id, here)

        done = ranks.from_first(hold)
        if done is not None:
            return done
        with failure_on_record(store, run_id), ranks.failing_together(run_id):
            return Run(spec, store, here, ranks=ranks).train(on_epoch)


def finished(store: Store, run_id: str, runtime: Runtime) -> Result | None:
    """Return the result of a run that need not be trained, None of one that must be.

    One whose last checkpoint was to stay, and did not, is trained again.
    """
    done = store.result(run_id)
    if done is not None and runtime.keep == "last" and not store.has_whole_checkpoint(run_id):
        return None
    return done


def check_computable(spec: RunSpec) -> None:
    """Raise a ValueError if this code cannot compute the spec."""
    if spec.numerics_version != NUMERICS_VERSION:
        raise UsageError(
            f"Expected numerics_version {NUMERICS_VERSION}, got {spec.numerics_version}. "
            "Train it with the release that planned it."
        )
    check_code(spec.code)


@contextlib.contextmanager
def failure_on_record(store: Store, run_id: str) -> Iterator[None]:
    """Write to the run's `error.txt` what ends it early, if that is a failure of the run."""
    try:
        yield
    except (RunPausedError, RankLostError, StaleLeaseError, StoreUnreachableError):
        raise  # no failure of the run, and of the last two nothing can be written
    except Exception as error:
        if not is_of_another_rank(error):
            store.write_error(run_id, traceback.format_exc())
        raise


@dataclass(frozen=True)
class Common:
    """What a run has in common with others that train in this process at the same time."""

    splits: dict[tuple[DataSpec, tuple[str, ...]], dict[str, Split]] = field(default_factory=dict)
    """Data and tasks -> the splits, put here by the first run that needs them."""
    clock: Callable[[], float] = time.monotonic
    """Seconds, of which those of the run are told."""
    execution: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest's `execution` says of it."""


class Run:
    """A running run: its data, what is trained, and what is done to it in turn.

        with run.begin():
            while run.has_epochs_left:
                run.train_steps(run.epoch + 1)
                run.end_steps()
                run.end_epoch()
        run.end()

    Args:
        spec: of the run.
        store: where it lies.
        runtime: how it is executed.
        common: what it shares; None: nothing.
        ranks: the processes that train it.
    """

    def __init__(
        self,
        spec: RunSpec,
        store: Store,
        runtime: Runtime,
        common: Common | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        reset_peak_memory()
        torch.set_num_threads(runtime.num_threads)
        self.spec, self.store, self.runtime, self.ranks = spec, store, runtime, ranks
        self.common = Common() if common is None else common
        self.run_id = spec.run_id()
        self.device = device_of(runtime)
        set_arithmetic(spec)
        ranks.check(spec, self.run_id)
        self.folder = ranks.from_first(lambda: prepare(spec.data, runtime.data_root))
        self.info = data_info(self.folder)
        self.started = self.common.clock()  # put back after a resume by what was trained before
        self.epoch = 0
        """The one that is being trained, or that was finished last."""
        self.device_seconds = 0.0
        """Of the training steps alone."""
        key = (spec.data, spec.tasks)
        if key not in self.common.splits:
            self.common.splits[key] = self._new_splits()
        self.splits = self.common.splits[key]
        network = new_network(spec, self.info, runtime.encoder_weights_file).to(self.device)
        network = network.to(memory_format=memory_format(spec))
        options: dict[str, Any] = dict(spec.method_options)
        weighting = build_weighting(
            spec.method,
            spec.tasks,
            spec.priorities,
            loss_kinds={task: task_of(task).declared.loss_kind for task in spec.tasks},
            seed=spec.seed,
            skip_nonfinite=True,  # an epoch with such a loss fails at its end: no step waits
            **options,
        ).to(self.device)
        self.why_eager = why_eager(spec, self.device, runtime.cuda_graphs, ranks.number)
        graphed = self.why_eager is None
        rate: float | torch.Tensor = spec.optimizer.learning_rate
        optimizer = torch.optim.AdamW(
            network.parameters(),
            # A graph reads it from where it is.
            lr=torch.tensor(rate, device=self.device) if graphed else rate,
            capturable=graphed,
            betas=(spec.optimizer.beta1, spec.optimizer.beta2),
            eps=spec.optimizer.epsilon,
            weight_decay=spec.optimizer.weight_decay,
            fused=True,
        )
        self.network, self.weighting, self.optimizer = network, weighting, optimizer
        # "imagenet" names weights that timm may replace one day: this says which they were.
        self.initial_weights = weights_hash(network)
        self.log = EpochLog(len(spec.tasks), self.device)
        stepper = Stepper(spec, network, weighting, optimizer, self.info, ranks)
        self.graphed = GraphedStepper(stepper, self.log) if graphed else None
        self._take_step = (
            partial(stepper.take_step, log=self.log)
            if self.graphed is None
            else self.graphed.take_step
        )
        self.mirror_signs = {
            task: signs for task in spec.tasks if (signs := task_of(task).mirror_signs) is not None
        }

    def _new_splits(self) -> dict[str, Split]:
        tasks = self.spec.tasks
        splits: dict[str, Split] = {
            split: MappedSplit(
                self.folder,
                split,
                tasks,
                measured_only=split != "train",
                derived=derivations(tasks),
            )
            for split in SPLITS
        }
        for split in ("train", "validation"):  # of the test split there is one pass
            splits[split] = placed(splits[split], self.device)
        return splits

    def train(self, on_epoch: OnEpoch | None) -> Result:
        """Train the epochs that are missing, write the result and return it."""
        with self.begin():
            while self.has_epochs_left:
                with self.failures_named():
                    self.train_steps(self.epoch + 1)
                    self.end_steps()
                record = self.end_epoch()
                if on_epoch is not None and self.ranks.is_first:
                    on_epoch(record)
        return self.end()

    def begin(self) -> AbstractContextManager[Any]:
        """Go on from the checkpoint, if there is one; return what writes further ones.

        It is a context manager, within which the epochs are trained.
        """
        self._trained = {
            "network": self.network, "weighting": self.weighting, "optimizer": self.optimizer,
        }  # fmt: skip
        progress = load_checkpoint(self.store, self.run_id, self._trained, self.device, self.ranks)
        if self.spec.is_mixed:
            progress = self._mixed()
        elif progress.epoch == 0 and self.spec.trunk is not None:
            progress = self._forked(self.spec.trunk)
        self.ranks.make_equal(self.network.state_dict().values())
        self.epoch, self._selected = progress.epoch, progress.selected
        self.started -= progress.seconds.get("wall", 0.0)
        self.device_seconds += progress.seconds.get("device", 0.0)
        self._last_record = self.ranks.from_first(self._begin_in_store)
        if not self.ranks.is_first:
            return contextlib.nullcontext()
        self._checkpoints = CheckpointWriter(
            self.store, self.run_id, self.runtime.keep, self.runtime.checkpoint_seconds, self.device
        )
        return self._checkpoints

    def _begin_in_store(self) -> EpochRecord | None:
        """Write the manifest; keep the records up to the checkpoint and return the last one."""
        spec, store, run_id = self.spec, self.store, self.run_id
        held = store.epochs(run_id)
        records = held[: self.epoch]
        if len(records) < self.epoch and not spec.is_mixed:
            raise StoreError(
                f"Expected the records of {self.epoch} epochs, which the checkpoint of run "
                f"{run_id} has behind it, got {len(records)}. Remove "
                f"{store.place(store.run_key(run_id))} to train the run again."
            )
        if len(records) < len(held):  # ahead of the checkpoint: those epochs are trained again
            store.write_epochs(run_id, records)
        self.manifest = new_manifest(spec, self.folder, self.device)
        self.manifest["execution"] |= self.ranks.to_manifest()
        self.manifest["initial_weights"] = self.initial_weights
        self.manifest["data"]["place"] = self.splits["train"].place
        self.manifest["execution"] |= {"steps": self.steps_to_text(), **self.common.execution}
        self.manifest |= network_size(self.network, spec, self.device)
        earlier = store.manifest(run_id) or {}
        if self.epoch:  # what is trained and timed already was so executed
            before = [*earlier.get("earlier_executions", []), earlier.get("execution")]
            others = [one for one in before if one and one != self.manifest["execution"]]
            if others:
                self.manifest["earlier_executions"] = [
                    one for number, one in enumerate(others) if one not in others[:number]
                ]
        if not spec.is_mixed:
            started = [*earlier.get("started_epochs", []), self.epoch + 1]
            self.manifest["started_epochs"] = started
        store.write_manifest(run_id, self.manifest)
        return records[-1] if records else None

    def _forked(self, trunk: str) -> Progress:
        """Take up where the trunk ended: its state, at this run's priorities, and its records."""
        spec, store, weighting = self.spec, self.store, self.weighting
        after = spec.forked_after
        assert after is not None
        assert spec.priorities is not None
        if trunk_of(spec, after).run_id() != trunk:
            raise UsageError(
                f"Expected the trunk of run {self.run_id}, {trunk_of(spec, after).run_id()}, got "
                f"{trunk}. `mtl.spec.forked` sets both."
            )
        if not isinstance(weighting, Prioritised):
            raise UsageError(
                f"Expected a method whose priorities can change for a forked run, got "
                f"{spec.method!r}. Derive it from mtl.weighting.base.Prioritised."
            )
        weighting.set_priorities(equal_priorities(spec.tasks))
        progress = load_checkpoint(store, trunk, self._trained, self.device, self.ranks)
        if progress.epoch != after:
            found = f"that after epoch {progress.epoch}" if progress.epoch else "none"
            raise StoreError(
                f"Expected the checkpoint after epoch {after} of run {trunk} in {store.place('')}, "
                f"from which run {self.run_id} goes on, got {found}. Train it first, with "
                "--keep last."
            )
        weighting.set_priorities(spec.priorities)
        self.ranks.from_first(lambda: store.write_epochs(self.run_id, store.epochs(trunk)[:after]))
        return Progress(after)

    def _mixed(self) -> Progress:
        """Take the weights of two forks; no epoch is left to train."""
        spec, store = self.spec, self.store
        first, second = (fork.run_id() for fork in forks_of(spec))
        done = self.ranks.from_first(lambda: store.done((first, second)))
        for fork in (first, second):
            if fork not in done:
                raise StoreError(
                    f"Expected the finished fork {fork} in {store.place('')}, whose weights run "
                    f"{self.run_id} mixes with another's, got none. Train it first, with --keep "
                    "final."
                )
        network = mixed_network(store, (first, second), spec.mix, self.runtime)
        self.network.load_state_dict(network.state_dict())
        return Progress(spec.epochs)

    @property
    def has_epochs_left(self) -> bool:
        """Return whether there is an epoch to train before the run ends or pauses."""
        return self.epoch < min(self.spec.epochs, self.runtime.pause_after or self.spec.epochs)

    @contextlib.contextmanager
    def failures_named(self) -> Iterator[None]:
        """Turn what would fail again into a `RunFailedError` that names the epoch."""
        try:
            yield
        except (ValueError, RunFailedError) as error:
            raise RunFailedError(f"Epoch {self.epoch}: {error}") from error

    def begin_epoch(self, epoch: int) -> None:
        """Begin an epoch."""
        self.epoch = epoch
        self._epoch_started = self.common.clock()
        self._difficulties = self.weighting.difficulties
        self.log.restart()
        self._step = (self.epoch - 1) * self.spec.steps_per_epoch
        self.network.train()

    def train_steps(self, epoch: int) -> None:
        """Begin an epoch and take all its steps."""
        self.begin_epoch(epoch)
        with global_stream(*self.stream):
            for batch in self.batches():
                self.step(batch)

    @property
    def stream(self) -> tuple[int, *tuple[int | str, ...]]:
        """Return seed and names of the stream that the network draws from in this epoch."""
        own = () if self.ranks.is_first else (self.ranks.rank,)  # of other images, other draws
        return (self.spec.seed, "network", self.epoch, *own)

    def batches(self) -> Iterator[Batch]:
        """Return the batches of the epoch."""
        spec = self.spec
        return training_batches(
            self.splits["train"],
            seed=spec.seed,
            epoch=self.epoch,
            batch_size=spec.batch_size,
            horizontal_flips=spec.horizontal_flips,
            mirror_signs=self.mirror_signs,
            device=self.device,
            rows=self.ranks.rows_in(spec.micro_batches),
        )

    def step(self, batch: Batch) -> None:
        """Take an optimizer step."""
        spec = self.spec
        num_steps = (spec.optimizer.schedule_epochs or spec.epochs) * spec.steps_per_epoch
        self._learning_rate = learning_rate_at(spec.optimizer, self._step, num_steps)
        self._take_step(batch, self._learning_rate)
        self._step += 1
        if spec.period_steps is not None and self._step % spec.period_steps == 0:
            self.weighting.end_period(epochs=spec.period_steps / spec.steps_per_epoch)

    def end_steps(self) -> None:
        """End the steps of the epoch, its period too if one ends; look at the losses.

        Raises:
            UsageError: if a loss is not finite.
        """
        # Before the losses are looked at: where a method refuses one, those after it are NaN.
        if self.spec.period_steps is None and self.epoch % self.spec.period_epochs == 0:
            self.weighting.end_period(epochs=float(self.spec.period_epochs))
        self._losses = self.log.losses()
        for task, loss in zip(self.spec.tasks, self._losses, strict=True):
            if loss is not None and not math.isfinite(loss):
                raise UsageError(
                    f"Expected a finite loss of task {task!r}, got a mean of {loss} over the "
                    "epoch. Lower the learning rate or look at its targets."
                )
        self.device_seconds += self.common.clock() - self._epoch_started

    def end_epoch(self) -> EpochRecord:
        """Evaluate the epoch on validation, record it and take a checkpoint."""
        self.ranks.make_equal(self.network.buffers())
        with self.failures_named():
            validation = self._evaluate("validation")
        difficulties, matrix = self._difficulties, self.network.cross_stitch_matrix()
        record = EpochRecord(
            epoch=self.epoch,
            losses=self._losses,
            weights=self.log.weights(),
            loss_scales=self.log.loss_scales(),
            difficulties=None if difficulties is None else difficulties.tolist(),
            learning_rate=self._learning_rate,
            metrics={"validation": validation},
            seconds=self.common.clock() - self._epoch_started,
            cross_stitch=None if matrix is None else matrix.tolist(),
        )
        self._last_record = record
        if self.spec.selection == "validation":
            self._selected = self._better(record, self._selected)
        if self.ranks.is_first:
            self.store.append_epoch(self.run_id, record)
            self._write_samples()
            # After the record: no checkpoint has an epoch behind it that is not on record.
            progress = Progress(self.epoch, self._seconds(), self._selected)
            self._checkpoints.take(progress, self._trained)
        return record

    def end(self) -> Result:
        """Write the result and return it, once no checkpoint is written any more.

        Raises:
            RunPausedError: if epochs are left, which the manifest then says.
        """
        last = self._last_record
        if self.spec.is_mixed:
            validation = self._evaluate("validation")
            self.ranks.from_first(self._write_samples)
        elif last is None or self.epoch < self.spec.epochs:
            self.ranks.from_first(self._write_paused)
            raise RunPausedError(f"Paused after epoch {self.epoch} of {self.spec.epochs}.")
        else:
            validation = last.metrics["validation"]
        result = self._result(validation, self._selected)
        memory = self.ranks.gathered((peak_memory_bytes(), peak_device_bytes(self.device)))
        self.ranks.from_first(lambda: self._write_result(result, memory))
        return result

    def _write_paused(self) -> None:
        self.manifest[PAUSED_AFTER] = self.epoch
        self.store.write_manifest(self.run_id, self.manifest)

    def _write_result(
        self, result: Result, memory: Sequence[tuple[int | None, int | None]]
    ) -> None:
        """Write the result; `memory` is each rank's peak, and that of its GPU."""
        store, run_id, keep = self.store, self.run_id, self.runtime.keep
        of_ranks, of_gpus = ([peak for peak in held if peak] for held in zip(*memory, strict=True))
        # In this order: a stop at any point leaves either a checkpoint or the result.
        save_weights(store, run_id, self.network, keep)
        self.manifest |= {f"{name}_seconds": seconds for name, seconds in self._seconds().items()}
        self.manifest["execution"]["steps"] = self.steps_to_text()
        self.manifest["peak_memory_bytes"] = sum(of_ranks) or None
        self.manifest["peak_device_bytes"] = max(of_gpus, default=None)
        store.write_manifest(run_id, self.manifest)
        store.write_result(result)
        tidy_checkpoints(store, run_id, keep)

    def steps_to_text(self) -> str:
        """Return whether steps are CUDA graphs, or why they are not."""
        why = self.why_eager if self.graphed is None else self.graphed.failure
        return "CUDA graphs" if why is None else f"eager: {why}"

    def _seconds(self) -> dict[str, float]:
        """Return the seconds of the whole run, those before a resume included."""
        return {"wall": self.common.clock() - self.started, "device": self.device_seconds}

    def _result(self, last: TaskMetrics, selected: Selected | None) -> Result:
        """Return the result, with the network left at the selected epoch's weights."""
        final = {"validation": last, "test": self._evaluate("test")}
        epoch, metrics = self.spec.epochs, final
        if selected is not None and selected.epoch != self.spec.epochs:
            self.network.load_state_dict(selected.network)
            epoch = selected.epoch
            metrics = {"validation": selected.metrics, "test": self._evaluate("test")}
        return Result(
            run_id=self.run_id,
            status="done",
            epochs=self.spec.epochs,
            selection=self.spec.selection,
            selected_epoch=epoch,
            selected_metrics=metrics,
            final_metrics=final,
            declared={task: task_of(task).declared for task in self.spec.tasks},
        )

    def _evaluate(self, split: str) -> TaskMetrics:
        return evaluate(
            self.network, self.spec, self.splits[split], self.info, self.device, self.ranks
        )

    def _better(self, record: EpochRecord, selected: Selected | None) -> Selected:
        """Return the better of the epoch just trained and the best one before it."""
        metrics = record.metrics["validation"]
        if selected is not None and not is_better(metrics, selected.metrics):
            return selected
        weights = {
            name: value.detach().to("cpu", copy=True)
            for name, value in self.network.state_dict().items()
        }
        return Selected(record.epoch, metrics, weights)

    def _write_samples(self) -> None:
        runtime = self.runtime
        if runtime.num_samples and self.epoch in (*runtime.sample_epochs, self.spec.epochs):
            split, key = self.splits["validation"], f"epoch_{self.epoch:05d}.npz"
            samples = samples_of(self.network, self.spec, split, self.info, runtime.num_samples)
            self.store.write(self.store.run_key(self.run_id, "samples", key), samples)
