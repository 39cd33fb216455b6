"""What a plan would cost: seconds and bytes, from earlier runs or from the shipped model.

Times are ranges: of finished runs in the store of the same network, tasks and image size, or else
of `cost_model.json`, a line through measured runs with the spread that machines have. Steps that
`--plan --probe` timed on this machine count more than both.
"""

import functools
import itertools
import json
import math
import os
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl.spec import OwnSpec, RunSpec, Runtime, Spec
from mtl.spec.code import is_reference
from mtl.spec.methods import METHODS, needs_of
from mtl.spec.sections import SPLITS, DataSpec
from mtl.spec.tasks import declared_task
from mtl.store import Store
from mtl.store.states import read_runs
from sweeps.text import Range

StepKey = tuple[Any, ...]
"""What `step_key` returns."""

MAX_RUNS_READ = 200
"""Finished runs that are looked at; more would not sharpen the range."""
MAX_RUNS_LOOKED_AT = 10 * MAX_RUNS_READ
"""For those: run ids are hashes, so the first ones are as good a sample as any."""
OBSERVED_MARGIN = 0.1
"""Share by which the range of earlier runs is widened on both sides."""
PROBE_MARGIN = 0.15
"""Share by which the range from timed steps is wide on both sides."""
MIXED_EPOCHS = 1 / 3
"""Epochs that take as long as mixing two networks: a forward pass alone of the training images."""
BYTES_PER_PARAMETER = 4
TRAINING_COPIES = 3
"""A checkpoint of a running run holds each parameter and AdamW's two moments."""
RECORD_BYTES = 20_000
"""spec, manifest, result and folder entries of a run."""
EPOCH_BYTES = 1_500
"""One line of epochs.jsonl."""

NUM_CLASSES = 13
"""Of the segmentation, as in NYUv2: how many a data set has does not move a price much."""


@dataclass(frozen=True)
class Estimate:
    """What is expected of the runs that are still to be trained."""

    seconds: Range
    """Wall time of the whole command."""
    num_bytes: int
    """That the store and the prepared data will grow by."""
    source: str
    """Where the figures come from, in a few words."""
    run_seconds: Mapping[str, Range]
    """run id -> seconds of that run alone, of those of which something is known."""
    is_known: bool = True
    """False where nothing is known of some of the runs, as of a function of one's own at first."""
    written_bytes: int = 0
    """That the checkpoints of running runs write at most, each in place of the one before; 0 where
    it is not estimated."""


@functools.cache
def cost_model() -> dict[str, Any]:
    """Return the shipped model; its file says how each figure was measured."""
    return json.loads(Path(__file__).with_name("cost_model.json").read_text("utf-8"))


def estimate(
    runs: Mapping[str, Spec],
    *,
    store: Store | None,
    runtime: Runtime,
    concurrency: int,
    num_cpus: int,
    gpus_per_run: float = 0.0,
    measured_steps: Mapping[StepKey, float] | None = None,
    packed: bool = False,
) -> Estimate:
    """Return what training `runs` would cost.

    Args:
        runs: run id -> spec, of the runs to train.
        store: where earlier runs may lie; None if there is none yet.
        runtime: how they are executed: where data lie, which checkpoints and samples stay.
        concurrency: runs side by side.
        num_cpus: processes that prepare data.
        gpus_per_run: 0 without a GPU.
        measured_steps: seconds of a step, timed on this machine, by `step_key`; they count more
            than earlier runs.
        packed: whether several runs train together in one process. Earlier runs that did so tell
            their share; where there are none, each run is expected to take what it takes alone.
    """
    if not runs:
        return Estimate((0.0, 0.0), 0, "nothing to train", {})
    ranks = max(1, int(gpus_per_run))
    rates = observed_rates(store, packed, ranks) if store is not None else {}
    spread = cost_model()["gpu_spread" if gpus_per_run > 0 else "spread"]
    run_seconds = {}
    sources = set()
    for run_id, spec in runs.items():
        observed = rates.get(rate_key(spec))
        step = None if isinstance(spec, OwnSpec) else (measured_steps or {}).get(step_key(spec))
        if observed is not None and step is None:
            run_seconds[run_id] = observed.seconds_of(spec)
            sources.add("earlier runs in the store")
        elif isinstance(spec, RunSpec):
            if step is not None:
                centre, source = probed_rate(spec, step), "timed steps"
                # Steps are timed on one GPU; several are at best so many times as fast.
                sides = ((1 - PROBE_MARGIN) / ranks, 1 + PROBE_MARGIN)
            else:
                centre, source = modelled_rate(spec), "the shipped cost model"
                sides = spread
            sources.add(source)
            low, high = (_num_images(spec) * centre * side for side in sides)
            run_seconds[run_id] = (low, high)
    if len(run_seconds) < len(runs):
        unknown = "unknown until a run is done"
        return Estimate((0.0, 0.0), 0, unknown, run_seconds, is_known=False)
    data_seconds, data_bytes = _preparation(
        dict.fromkeys(s.data for s in runs.values() if isinstance(s, RunSpec)),
        runtime.data_root,
        num_cpus,
    )
    start = cost_model()["start_seconds"]
    low, high = (
        start[side]
        + data_seconds[side]
        + makespan([seconds[side] for seconds in run_seconds.values()], concurrency)
        for side in (0, 1)
    )
    num_bytes = sum(stored_bytes(spec, runtime) for spec in runs.values()) + data_bytes
    written = sum(
        checkpoint_bytes(spec, runtime, run_seconds[run_id][1]) for run_id, spec in runs.items()
    )
    source = " and ".join(sorted(sources))
    return Estimate((low, high), num_bytes, source, run_seconds, written_bytes=written)


def makespan(seconds: Sequence[float], slots: int) -> float:
    """Return the seconds until the last of the runs ends, `slots` of them side by side."""
    return max(sum(seconds) / slots, max(seconds, default=0.0))


def step_key(spec: RunSpec) -> StepKey:
    """Return what decides how long a step with equal weights takes."""
    step = (spec.batch_size, spec.micro_batches, spec.precision, spec.channels_last)
    return (spec.tasks, spec.network, step, spec.data.height, spec.data.width)


def rate_key(spec: Spec) -> tuple[Any, ...]:
    """Return what decides how long one image takes, or a run of a function of one's own."""
    if isinstance(spec, OwnSpec):
        return (spec.train, json.dumps(spec.params, sort_keys=True))
    # Of a method from outside nobody asks, for earlier runs in the store, what it looks at.
    own_way = is_reference(spec.method) or METHODS[spec.method].needs_gradients
    gradients = spec.method if own_way else None
    return (*step_key(spec), gradients)


def _observed(
    store: Store, num_ranks: int
) -> dict[tuple[Any, ...], list[tuple[Spec, Mapping[str, Any]]]]:
    """Return finished runs with their manifests, by `rate_key`.

    Networks that another number of processes trained together do not count, nor mixed ones, nor
    runs that were begun by another number of processes, or packed with others, than they were
    ended. Runs whose files cannot be read count as absent: an estimate is no place to fail.
    """
    run_ids = store.run_ids()[:MAX_RUNS_LOOKED_AT]
    found: list[tuple[Spec, Mapping[str, Any]]] = []
    for start in range(0, len(run_ids), MAX_RUNS_READ):
        asked = run_ids[start : start + MAX_RUNS_READ]
        runs = read_runs(store, asked, manifests=True).values()
        found += [(run.spec, run.manifest) for run in runs if run.spec and run.manifest]
        if len(found) >= MAX_RUNS_READ:
            break
    by_kind: dict[tuple[Any, ...], list[tuple[Spec, Mapping[str, Any]]]] = {}
    for spec, manifest in found[:MAX_RUNS_READ]:
        is_asked = _of_execution(manifest, "processes") == num_ranks and not _is_uneven(manifest)
        if isinstance(spec, OwnSpec) or (is_asked and not spec.is_mixed):
            by_kind.setdefault(rate_key(spec), []).append((spec, manifest))
    return by_kind


def _number_of(manifest: Mapping[str, Any], name: str) -> float | None:
    """Return a number of a manifest above 0; None for anything else."""
    number = manifest.get(name)
    return number if isinstance(number, int | float) and number > 0 else None


@dataclass(frozen=True)
class ObservedRate:
    """What finished runs of one kind took."""

    per_image: Range
    """Seconds per training image and epoch, evaluation left out; of a function of one's own those
    of a whole run."""
    fixed: float
    """Seconds of a run, on the mean, that grow neither with epochs nor with images."""

    def seconds_of(self, spec: Spec) -> Range:
        """Return what another run of the kind would take."""
        images = _num_images(spec) * _with_evaluation(spec)
        low, high = (self.fixed + images * rate for rate in self.per_image)
        return (low * (1 - OBSERVED_MARGIN), high * (1 + OBSERVED_MARGIN))


def was_packed(manifest: Mapping[str, Any]) -> bool:
    """Return whether a run trained together with others: then its seconds are its share."""
    return _of_execution(manifest, "packed") > 1


def _is_uneven(manifest: Mapping[str, Any]) -> bool:
    """Return whether a run's seconds add up what differs: of several processes, shares, whole."""
    earlier = manifest.get("earlier_executions")
    return any(
        _of_execution({"execution": one}, name) != _of_execution(manifest, name)
        for one in (earlier if isinstance(earlier, list) else [])
        for name in ("processes", "packed")
    )


def _of_execution(manifest: Mapping[str, Any], name: str) -> int:
    """Return a number that a manifest's `execution` says, 1 where it says none."""
    execution = manifest.get("execution")
    number = execution.get(name) if isinstance(execution, Mapping) else None
    return number if isinstance(number, int) else 1


def observed_rates(
    store: Store, packed: bool = False, num_ranks: int = 1
) -> dict[tuple[Any, ...], ObservedRate]:
    """Return what finished runs in `store` took, by `rate_key`.

    `packed`: of those that trained together, and of a kind of which there are none, alone.
    `num_ranks`: of those that so many processes trained together.
    """
    rates = {}
    for key, every in _observed(store, num_ranks).items():
        alone = [(spec, manifest) for spec, manifest in every if not was_packed(manifest)]
        together = [(spec, manifest) for spec, manifest in every if was_packed(manifest)]
        found = together or alone if packed else alone
        trained, fixed = [], []
        for spec, manifest in found:
            wall = _number_of(manifest, "wall_seconds")
            if wall is None:
                continue
            evaluation = _with_evaluation(spec)
            # Without the time of the steps alone, all is taken to grow with them.
            steps = min(_number_of(manifest, "device_seconds") or wall, wall / evaluation)
            trained.append(steps / _num_images(spec))
            fixed.append(wall - steps * evaluation)
        if trained:
            rates[key] = ObservedRate((min(trained), max(trained)), sum(fixed) / len(fixed))
    return rates


def _num_images(spec: Spec) -> float:
    """Return the training images that a run sees; 1 for a function of one's own."""
    if isinstance(spec, OwnSpec):
        return 1
    return spec.data.num_train * (MIXED_EPOCHS if spec.is_mixed else spec.own_epochs)


def observed_memory(store: Store, specs: Iterable[Spec], pack: int = 1, num_ranks: int = 1) -> int:
    """Return the most bytes of main memory that a finished run of one of these kinds took.

    `pack`: that a process took which trained so many at once, or more. `num_ranks`: that so many
    processes took together which trained one. 0 unless `store` knows every kind among `specs`: a
    guess would hold runs back or overbook nodes.
    """
    wanted = {rate_key(spec) for spec in specs}
    known: dict[tuple[Any, ...], list[int]] = {}
    for key, found in (_observed(store, num_ranks) if wanted else {}).items():
        numbers = [
            _number_of(manifest, "peak_memory_bytes")
            for _, manifest in found
            if was_packed(manifest) == (pack > 1) and _of_execution(manifest, "packed") >= pack
        ]
        known[key] = [int(number) for number in numbers if number is not None]
    taken = [number for key in wanted for number in known.get(key, [])]
    return max(taken, default=0) if all(map(known.get, wanted)) else 0


def modelled_rate(spec: RunSpec) -> float:
    """Return seconds per training image and epoch by the shipped model, evaluation included."""
    model = cost_model()
    per_step = model["seconds_per_step_and_million_parameters"] * num_parameters(spec) / 1e6
    per_image = (
        model["overhead_seconds_per_training_image"]
        + model["seconds_per_training_gmac"] * forward_gmacs(spec) * passes(spec)
        + per_step / spec.batch_size
    )
    return per_image * _with_evaluation(spec)


def probed_rate(spec: RunSpec, seconds_per_step: float) -> float:
    """Return seconds per training image and epoch from those of a step with equal weights."""
    return seconds_per_step * passes(spec) / spec.batch_size * _with_evaluation(spec)


def _with_evaluation(spec: Spec) -> float:
    """Return the work of an epoch over that of its training alone, as far as it is known."""
    if isinstance(spec, OwnSpec):
        return 1.0
    evaluated = spec.data.num_validation * cost_model()["evaluation_share"]
    return 1 + evaluated / spec.data.num_train


def _encoder_row(spec: RunSpec) -> tuple[float, int, int]:
    """Return GMAC a megapixel, parameters and channels of the encoder at its stride."""
    encoders = cost_model()["encoders"]
    rows = encoders.get(spec.network.encoder, encoders[cost_model()["default_encoder"]])
    stride = spec.network.encoder_stride
    gmacs, parameters, channels = rows.get(str(stride), rows[max(rows, key=int)])
    return gmacs, parameters, channels


def _copies(spec: RunSpec) -> tuple[int, int]:
    """Return the numbers of encoders and decoders; MTAN's small attention modules are left out."""
    n, architecture = len(spec.tasks), spec.network.architecture
    num_encoders = n if architecture in ("single_task", "multi_column") else 1
    return num_encoders, 1 if architecture == "full_sharing" else n


def passes(spec: RunSpec) -> float:
    """Return the work of a step over that of one forward and one backward pass.

    A backward pass costs two forward ones; a method that looks at gradients takes one a task.
    """
    backward = len(spec.tasks) if needs_of(spec.method).needs_gradients else 1
    return (1 + 2 * backward) / 3


def _decoder_convolutions(spec: RunSpec) -> Iterable[tuple[int, float]]:
    """Yield weights and side length (share of the image's) of all decoders' convolutions."""
    widths = spec.network.decoder_widths
    stride = spec.network.encoder_stride
    num_decoders = _copies(spec)[1]
    side = 1 / stride
    yield num_decoders * 9 * _encoder_row(spec)[2] * widths[0], side
    upsampled_from = len(widths) - 1 - (stride.bit_length() - 1)
    for stage, (before, after) in enumerate(itertools.pairwise(widths)):
        if stage >= upsampled_from:
            side *= 2
        yield num_decoders * 9 * (before + after) * after, side
    # However many decoders: each task's output channels are computed once.
    outputs = sum(map(num_outputs, spec.tasks))
    yield 9 * widths[-1] * outputs, side


def num_outputs(task: str) -> int:
    """Return the channels of a task's prediction, with a guess at the number of classes."""
    return declared_task(task).num_channels or NUM_CLASSES


def forward_gmacs(spec: RunSpec) -> float:
    """Return the billions of multiply-adds of one image's forward pass."""
    pixels = spec.data.height * spec.data.width
    decoder = sum(weights * side**2 * pixels for weights, side in _decoder_convolutions(spec))
    return _copies(spec)[0] * _encoder_row(spec)[0] * pixels / 1e6 + decoder / 1e9


def num_parameters(spec: RunSpec) -> int:
    """Return the parameters of the network, biases left out."""
    decoders = sum(weights for weights, _ in _decoder_convolutions(spec))
    return _copies(spec)[0] * _encoder_row(spec)[1] + decoders


def stored_bytes(spec: Spec, runtime: Runtime) -> int:
    """Return the bytes that a finished run leaves in the store; checkpoints of others: unknown."""
    if isinstance(spec, OwnSpec):
        return RECORD_BYTES + EPOCH_BYTES * (spec.epochs or 1)
    weights = num_parameters(spec) * BYTES_PER_PARAMETER
    state = weights * TRAINING_COPIES
    kept = {"none": 0, "final": weights, "last": weights + state, "all": state * spec.own_epochs}
    records = RECORD_BYTES + EPOCH_BYTES * spec.epochs
    return records + kept[runtime.keep] + sample_bytes(spec, runtime)


def checkpoint_bytes(spec: Spec, runtime: Runtime, seconds: float) -> int:
    """Return the bytes that the checkpoints of a run of so many seconds write at most.

    0 for a function of one's own, of which nobody knows.
    """
    if isinstance(spec, OwnSpec):
        return 0
    copies = TRAINING_COPIES + (spec.selection == "validation")  # the best epoch's weights too
    least = 0.0 if runtime.keep == "all" else runtime.checkpoint_seconds
    number = min(spec.own_epochs, 1 + seconds / least) if least > 0 else spec.own_epochs
    return int(number * copies * num_parameters(spec) * BYTES_PER_PARAMETER)


def sample_bytes(spec: RunSpec, runtime: Runtime) -> int:
    """Return the bytes of a run's sample predictions before compression, which saves little.

    A pixel has 3 bytes of image; a map's prediction, target and error 2 each a channel (2 for
    the error), its mask 1; classes 1 each for prediction, target and mask, and 2 for the error.
    """
    epochs = {epoch for epoch in (*runtime.sample_epochs, spec.epochs) if epoch <= spec.epochs}
    channels = [declared_task(task).num_channels for task in spec.tasks]
    per_pixel = 3 + sum(5 if number is None else 4 * number + 3 for number in channels)
    num_images = min(runtime.num_samples, spec.data.num_validation)
    return len(epochs) * num_images * per_pixel * spec.data.height * spec.data.width


def _preparation(
    data_specs: Collection[DataSpec], data_root: str | None, num_cpus: int
) -> tuple[Range, int]:
    """Return the seconds and bytes of preparing what is not prepared yet."""
    from mtl.data.prepared import expected_bytes, is_prepared

    missing = [data for data in data_specs if not is_prepared(data, data_root)]
    seconds = sum(seconds_per_image(data) * sum(map(data.count, SPLITS)) for data in missing)
    low, high = (side * seconds / num_cpus for side in cost_model()["spread"])
    return (low, high), sum(expected_bytes(data) for data in missing)


def seconds_per_image(data: DataSpec) -> float:
    """Return the seconds in which one core renders one image with all targets."""
    per_megapixel = cost_model()["scene_seconds_per_megapixel"][data.variant]
    return per_megapixel * data.height * data.width / 1e6


def runs_within(seconds: Iterable[float], slots: int, budget_seconds: float) -> int:
    """Return how many runs of so many seconds, begun in order on `slots` slots, end in time."""
    free_at = [0.0] * slots
    count = 0
    for needed in seconds:
        slot = min(range(slots), key=free_at.__getitem__)
        free_at[slot] += needed
        count += free_at[slot] <= budget_seconds
    return count


def num_cpus() -> int:
    """Return the cores that this process may use: affinity and container limit included."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, _container_cpus()))


def _container_cpus(limit_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    try:
        quota, period = limit_file.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no control group, or "max": no limit
        return os.cpu_count() or 1


def num_gpus() -> int:
    """Return the NVIDIA GPUs that this process may use, `CUDA_VISIBLE_DEVICES` respected."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1", "NoDevFiles"):
        return 0
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    present = sum(line.startswith("GPU ") for line in listed.splitlines())
    return present if visible is None else min(present, len(visible.split(",")))
