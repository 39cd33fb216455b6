"""One training: `fit(spec, store)` trains, evaluates, records and can be stopped anywhere.

    python -m mtl.training SPEC.json --store DIR

trains one run without Ray, on the CPU or one GPU. Started again it goes on from the last finished
epoch; on the CPU the outcome is the same bit for bit as without the stop.
"""

import argparse
import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mtl.checkpoint import (
    Trainee,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
    tidy_checkpoints,
)
from mtl.data.batches import Batch, MappedSplit, evaluation_batches, training_batches
from mtl.data.prepared import PreparedDataError, data_info, prepare
from mtl.data.sources import DataInfo
from mtl.networks import FullSharing, build_network
from mtl.provenance import new_manifest
from mtl.records import EpochRecord, Result, RunFailedError, TaskMetrics
from mtl.spec import NUMERICS_VERSION, OptimizerSpec, RunSpec, Runtime
from mtl.store import Store, StoreError
from mtl.streams import global_stream
from mtl.tasks import TASKS
from mtl.weighting import build_weighting

EVALUATION_BATCH_SIZE = 32

OnEpoch = Callable[[EpochRecord], None]


def fit(
    spec: RunSpec,
    store: Store,
    runtime: Runtime | None = None,
    *,
    on_epoch: OnEpoch | None = None,
) -> Result:
    """Train a run to its end and return its result; resume it if it was begun before.

    Args:
        spec: what to train.
        store: where checkpoint, records and result go. A run that is done there is not trained.
        runtime: how to execute it; on the CPU the result is the same bit for bit for the same
            number of threads.
        on_epoch: called after each epoch, once its checkpoint is written.

    Raises:
        RunFailedError: if the run would fail again, such as a loss that is not finite.
        RunBusyError: if another process trains this run.
        ValueError: if this code cannot compute the spec.
    """
    if spec.numerics_version != NUMERICS_VERSION:
        raise ValueError(
            f"Expected numerics_version {NUMERICS_VERSION}, got {spec.numerics_version}. "
            "Train it with the release that planned it."
        )
    run_id = store.write_spec(spec)
    with store.run_lock(run_id):
        done = store.result(run_id)
        if done is not None:
            return done
        try:
            return _Run(spec, store, runtime or Runtime()).train(on_epoch)
        except Exception:
            store.write_error(run_id, traceback.format_exc())
            raise


def load_network(store: Store, run_id: str) -> FullSharing:
    """Return the network of a finished run, in evaluation mode on the CPU.

    Raises:
        StoreError: if the run is not done or its weights were not kept.
    """
    manifest = store.manifest(run_id)
    if manifest is None or not store.is_done(run_id):
        raise StoreError(f"Expected a finished run, got {run_id}, which is not. Train it first.")
    held = manifest["data"]["info"]
    shortest, longest = held["depth_range_m"]
    info = DataInfo(classes=tuple(held["classes"]), depth_range_m=(shortest, longest))
    network = _network(store.spec(run_id), info)
    load_weights(store.checkpoint_folder(run_id), network)
    return network.eval()


def learning_rate_at(optimizer: OptimizerSpec, step: int, num_steps: int) -> float:
    """Return the learning rate of a step, counted from 0, of `num_steps`.

    A linear rise from 0 over `warmup_share` of the steps, then the schedule: `constant`, or
    `linear` down to 0 after the last step.
    """
    warmup_steps = optimizer.warmup_share * num_steps
    if step < warmup_steps:
        return optimizer.learning_rate * (step + 1) / (warmup_steps + 1)
    if optimizer.schedule == "constant":
        return optimizer.learning_rate
    return optimizer.learning_rate * (num_steps - step) / (num_steps - warmup_steps)


def task_losses(
    spec: RunSpec, predictions: dict[str, torch.Tensor], batch: Batch, info: DataInfo
) -> torch.Tensor:
    """Return the task losses of a batch in their units, shape (num_tasks,)."""
    return torch.stack(
        [
            spec.loss_units[task]
            * TASKS[task].loss(predictions[task], batch.targets[task], batch.valid[task], info)
            for task in spec.tasks
        ]
    )


def evaluate(
    network: FullSharing, split: MappedSplit, info: DataInfo, device: torch.device
) -> TaskMetrics:
    """Return the metrics of `network` over a whole split."""
    accumulators = {task: TASKS[task].metrics(info) for task in split.tasks}
    network.eval()
    with torch.no_grad():
        for batch in evaluation_batches(split, batch_size=EVALUATION_BATCH_SIZE, device=device):
            predictions = network(batch.images)
            for task, accumulator in accumulators.items():
                accumulator.update(predictions[task], batch.targets[task], batch.valid[task])
    return {task: accumulator.compute() for task, accumulator in accumulators.items()}


def _network(spec: RunSpec, info: DataInfo) -> FullSharing:
    out_channels = {task: TASKS[task].num_channels(info) for task in spec.tasks}
    return build_network(spec.network, out_channels, spec.seed)


def _device(runtime: Runtime) -> torch.device:
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("Expected a CUDA GPU for device 'cuda', found none. Use --device cpu.")
    if runtime.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(runtime.device)


@dataclass
class _Clocks:
    """Seconds that go on after a resume."""

    wall: float = 0.0
    device: float = 0.0


class _Run:
    """A run under way: its data, what is trained, and the steps of an epoch."""

    def __init__(self, spec: RunSpec, store: Store, runtime: Runtime) -> None:
        torch.set_num_threads(runtime.num_threads)
        self.spec, self.store, self.runtime = spec, store, runtime
        self.run_id = spec.run_id()
        self.device = _device(runtime)
        self.folder = prepare(spec.data, runtime.data_root)
        self.info = data_info(self.folder)
        self.splits = {
            split: MappedSplit(self.folder, split, spec.tasks)
            for split in ("train", "validation", "test")
        }
        network = _network(spec, self.info).to(self.device).to(memory_format=torch.channels_last)
        weighting = build_weighting(
            spec.method, spec.tasks, spec.priorities, **spec.method_options
        ).to(self.device)
        optimizer = torch.optim.AdamW(
            network.parameters(),
            lr=spec.optimizer.learning_rate,
            betas=(spec.optimizer.beta1, spec.optimizer.beta2),
            eps=spec.optimizer.epsilon,
            weight_decay=spec.optimizer.weight_decay,
        )
        self.network, self.weighting, self.optimizer = network, weighting, optimizer
        self.shared_parameters = network.shared_parameters()
        self.task_parameters = network.task_parameters()
        self.mirror_signs = {
            task: signs for task in spec.tasks if (signs := TASKS[task].mirror_signs) is not None
        }

    def train(self, on_epoch: OnEpoch | None) -> Result:
        """Train the epochs that are missing, write the result and return it."""
        spec, store, run_id = self.spec, self.store, self.run_id
        trainee = Trainee(self.network, self.weighting, self.optimizer)
        checkpoints = store.checkpoint_folder(run_id)
        finished, seconds = load_checkpoint(checkpoints, run_id, trainee, self.device)
        clocks = _Clocks(**seconds)
        # A record may be ahead of the checkpoint; that epoch is trained, and recorded, again.
        records = store.epochs(run_id)[:finished]
        manifest = new_manifest(spec, self.folder, self.device)
        earlier = store.manifest(run_id) or {}
        manifest["started_epochs"] = [*earlier.get("started_epochs", []), finished + 1]
        store.write_manifest(run_id, manifest)
        for epoch in range(finished + 1, spec.epochs + 1):
            records.append(self._train_epoch(epoch, clocks))
            store.write_epochs(run_id, records)
            save_checkpoint(checkpoints, run_id, epoch, trainee, vars(clocks), self.runtime.keep)
            if on_epoch is not None:
                on_epoch(records[-1])
        metrics = {
            "validation": records[-1].metrics["validation"],
            "test": evaluate(self.network, self.splits["test"], self.info, self.device),
        }
        result = Result(
            run_id=run_id,
            status="done",
            epochs=spec.epochs,
            selection="last",
            selected_epoch=spec.epochs,
            selected_metrics=metrics,
            final_metrics=metrics,
        )
        manifest |= {"wall_seconds": clocks.wall, "device_seconds": clocks.device}
        store.write_manifest(run_id, manifest)
        # In this order: a stop at any point leaves either a checkpoint or the result.
        save_weights(checkpoints, run_id, self.network, self.runtime.keep)
        store.write_result(result)
        tidy_checkpoints(checkpoints, self.runtime.keep)
        return result

    def _train_epoch(self, epoch: int, clocks: _Clocks) -> EpochRecord:
        """Train one epoch, evaluate it on validation and close the weighting's period."""
        start = time.monotonic()
        weights = self.weighting.weights
        difficulties = self.weighting.difficulties
        learning_rate = self._train_steps(epoch)
        losses = self.weighting.period_means()
        try:
            self.weighting.end_period()
        except ValueError as error:
            raise RunFailedError(f"Epoch {epoch}: {error}") from error
        clocks.device += time.monotonic() - start
        validation = evaluate(self.network, self.splits["validation"], self.info, self.device)
        _check_finite(validation, epoch)
        elapsed = time.monotonic() - start
        clocks.wall += elapsed
        return EpochRecord(
            epoch=epoch,
            losses=losses,
            weights=weights.tolist(),
            loss_scales=[
                None if loss is None else weight * loss
                for weight, loss in zip(weights.tolist(), losses, strict=True)
            ],
            difficulties=None if difficulties is None else difficulties.tolist(),
            learning_rate=learning_rate,
            metrics={"validation": validation},
            seconds=elapsed,
        )

    def _train_steps(self, epoch: int) -> float:
        """Take the optimizer steps of an epoch; return the last learning rate."""
        spec = self.spec
        steps_per_epoch = -(-spec.data.num_train // spec.batch_size)
        step = (epoch - 1) * steps_per_epoch
        learning_rate = 0.0
        self.network.train()
        batches = training_batches(
            self.splits["train"],
            seed=spec.seed,
            epoch=epoch,
            batch_size=spec.batch_size,
            horizontal_flips=spec.horizontal_flips,
            mirror_signs=self.mirror_signs,
            device=self.device,
        )
        with global_stream(spec.seed, "network", epoch):
            for batch in batches:
                learning_rate = learning_rate_at(
                    spec.optimizer, step, spec.epochs * steps_per_epoch
                )
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate
                losses = task_losses(spec, self.network(batch.images), batch, self.info)
                present = torch.stack([batch.valid[task].any() for task in spec.tasks])
                self.optimizer.zero_grad()
                self.weighting.backward(
                    losses,
                    present,
                    shared_parameters=self.shared_parameters,
                    task_parameters=self.task_parameters,
                )
                self.optimizer.step()
                step += 1
        return learning_rate


def _check_finite(metrics: TaskMetrics, epoch: int) -> None:
    """Raise a `RunFailedError` that names the task if a metric is NaN or infinite."""
    for task, values in metrics.items():
        for name, value in values.items():
            if value is not None and not math.isfinite(value):
                raise RunFailedError(
                    f"Epoch {epoch}: Expected a finite {name} of task {task!r} on validation, got "
                    f"{value}: the weights are no longer finite. Lower the learning rate."
                )


def _print_epoch(record: EpochRecord) -> None:
    losses = ", ".join("absent" if loss is None else f"{loss:.4g}" for loss in record.losses)
    print(f"epoch {record.epoch}: losses {losses}; {record.seconds:.1f} s", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Train the run of a spec file; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mtl.training", description=__doc__)
    parser.add_argument("spec", metavar="SPEC.json", help="a RunSpec as JSON; see mtl/spec.py")
    parser.add_argument("--store", default="results", help="folder of results (default: results)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--data-root", help="folder of prepared data (default: user's cache)")
    parser.add_argument("--keep", default="final", help="none, final or all (default: final)")
    arguments = parser.parse_args(argv)
    try:
        runtime = Runtime(
            device=arguments.device,
            num_threads=arguments.threads,
            data_root=arguments.data_root,
            keep=arguments.keep,
        )
        spec = RunSpec.from_dict(json.loads(Path(arguments.spec).read_text("utf-8")))
    except (OSError, ValueError) as error:
        print(f"{arguments.spec}: {error}", file=sys.stderr)
        return 2
    try:
        store = Store(arguments.store)
        result = fit(spec, store, runtime, on_epoch=_print_epoch)
    except (RunFailedError, StoreError, PreparedDataError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. The same command continues after the last epoch.", file=sys.stderr)
        return 1
    print(json.dumps(result.to_dict(), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
