"""What a training costs: parameters, operations, memory and seconds a step, measured in seconds.

The network is built and trained for some steps on random images and targets, so neither prepared
data nor encoder weights are needed. Values do not matter for the cost.
"""

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mtl.data.batches import Batch
from mtl.data.sample import DataInfo
from mtl.networks import MultiTaskNetwork
from mtl.spec import RunSpec
from mtl.streams import global_stream, torch_stream
from mtl.tasks import task_of
from mtl.training.evaluation import (
    EVALUATION_BATCH_SIZE,
    memory_format,
    new_network,
    predict,
    set_arithmetic,
)
from mtl.training.graph import NUM_EAGER_STEPS, GraphedStepper, why_eager
from mtl.training.manifest import (
    network_size,
    peak_device_bytes,
    peak_memory_bytes,
    reset_peak_memory,
)
from mtl.training.pack import Lane, shared_batches
from mtl.training.step import EpochLog, Stepper, task_losses
from mtl.weighting import build_weighting

NUM_WARM_UP_STEPS = 2
COPIES_IN_TRAINING = 4
"""A parameter, its gradient and AdamW's two moments."""


@dataclass(frozen=True)
class ProbeResult:
    """What one training of a spec takes."""

    device: str
    """`cpu` or the GPU's name."""
    num_parameters: int
    forward_flops: int
    """Of one image's forward pass: convolutions and matrix products, a multiply-add as two."""
    activation_bytes: int
    """What the forward pass of one micro-batch keeps for the backward pass, without parameters."""
    parameter_bytes: int
    """Parameters, their gradients and AdamW's moments."""
    seconds_per_step: float
    """Median over the steps; on the CPU with one thread, as runs have."""
    peak_memory_bytes: int | None
    """Most main memory of this process meanwhile, all that it holds: see
    `mtl.training.manifest.peak_memory_bytes`. A run's is the same where the process is."""
    peak_device_bytes: int | None
    """Most of a GPU's memory that tensors took; None on the CPU."""


def probe(
    spec: RunSpec,
    info: DataInfo,
    *,
    num_steps: int = 5,
    min_seconds: float = 0.0,
    device: torch.device | None = None,
) -> ProbeResult:
    """Build the network of `spec`, train it for some steps on random data, and measure.

    The tasks are weighted equally in place of by `spec.method`: methods that look at each task's
    gradient take longer than this, by up to one backward pass a task. Reading and augmenting
    images is not in the time either.

    Args:
        spec: what would be trained.
        info: the data set.
        num_steps: steps to time at least, after some to warm up.
        min_seconds: go on timing steps until they have taken this long.
        device: where to train; None takes the GPU where there is one.

    Raises:
        ValueError: if the network cannot be built.
    """
    reset_peak_memory()
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = new_network(spec, info, from_scratch=True).to(device)
    network = network.to(memory_format=memory_format(spec))
    weighting = build_weighting("equal", spec.tasks).to(device)
    stepper = Stepper(
        spec, network, weighting, torch.optim.AdamW(network.parameters(), fused=True), info
    )
    batch = _random_batch(spec, info, device)
    # Tensors of its own: a view of the batch would count as the whole batch.
    largest = -(-spec.batch_size // spec.micro_batches)
    part_spec = replace(spec, batch_size=largest, micro_batches=1)
    with _one_thread(), global_stream(spec.seed, "probe"):
        # First what a run does, and its peak; what is measured beside that takes memory too.
        seconds = _step_seconds(stepper, batch, spec, num_steps, min_seconds)
        _evaluate_once(network, spec, info, device)
        peak, device_peak = peak_memory_bytes(), peak_device_bytes(device)
        size = network_size(network, spec, device)
        part = _random_batch(part_spec, info, device)
        activation_bytes = _kept_bytes(
            lambda: task_losses(spec, predict(network, spec, part.images), part, info), network
        )
    parameters = list(network.parameters())
    return ProbeResult(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        **size,
        activation_bytes=activation_bytes,
        parameter_bytes=COPIES_IN_TRAINING * sum(p.numel() * p.element_size() for p in parameters),
        seconds_per_step=statistics.median(seconds),
        peak_memory_bytes=peak,
        peak_device_bytes=device_peak,
    )


def probe_packs(
    spec: RunSpec,
    info: DataInfo,
    *,
    cuda_graphs: bool = False,
    numbers: Sequence[int] = (1, 2, 4, 8),
    min_seconds: float = 3.0,
    device: torch.device | None = None,
) -> dict[int, float]:
    """Return number of runs -> images a second of all of them, training together on random data.

    They take their steps as `mtl.training.pack` lets them, with equal weights on one batch. Where
    the GPU's memory does not hold so many, or leaves no room for what a run needs beside its steps
    (an evaluation, a copy of its state for a checkpoint), the number is left out.

    Args:
        spec: of the runs.
        info: the data set.
        cuda_graphs: see `Runtime.cuda_graphs`.
        numbers: of runs, ascending.
        min_seconds: for which steps are timed, at each number.
        device: where to train; None takes the GPU where there is one.

    Raises:
        ValueError: if the network cannot be built.
    """
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    set_arithmetic(spec)
    batch = _random_batch(spec, info, device)
    lanes: list[Lane] = []
    steps: list[_Steps] = []
    rates: dict[int, float] = {}
    with _one_thread(), contextlib.suppress(torch.OutOfMemoryError):
        for number in numbers:
            while len(lanes) < number:
                lanes.append(Lane(device))
                with lanes[-1].turn():
                    steps.append(_new_steps(spec, info, device, cuda_graphs))
            measured = _steps_per_second(batch, lanes, steps, min_seconds)
            for lane, held in zip(lanes, steps, strict=True):  # each keeps the memory that it took
                with lane.turn():
                    _evaluate_once(held.network, spec, info, device)
            if not _has_room(device, number):
                break
            rates[number] = number * spec.batch_size * measured
    return rates


@dataclass(frozen=True)
class _Steps:
    """The steps of one of several runs."""

    network: MultiTaskNetwork
    take: Callable[[Batch], None]


def _new_steps(spec: RunSpec, info: DataInfo, device: torch.device, cuda_graphs: bool) -> _Steps:
    network = new_network(spec, info, from_scratch=True).to(device)
    network = network.to(memory_format=memory_format(spec))
    graphed = why_eager(spec, device, cuda_graphs) is None
    rate: float | Tensor = spec.optimizer.learning_rate
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=torch.tensor(rate, device=device) if graphed else rate,
        capturable=graphed,
        fused=True,
    )
    weighting = build_weighting("equal", spec.tasks).to(device)
    stepper = Stepper(spec, network, weighting, optimizer, info)
    log, learning_rate = EpochLog(len(spec.tasks), device), spec.optimizer.learning_rate
    if graphed:
        graphs = GraphedStepper(stepper, log)
        return _Steps(network, lambda batch: graphs.take_step(batch, learning_rate))
    return _Steps(network, lambda batch: stepper.take_step(batch, learning_rate, log))


def _steps_per_second(
    batch: Batch, lanes: Sequence[Lane], steps: Sequence[_Steps], min_seconds: float
) -> float:
    """Return how many steps a second each of several runs takes, all at once."""

    def take(number: int) -> float:
        start = time.perf_counter()
        for held in steps:
            held.network.train()
        for given in shared_batches(itertools.repeat(batch, number), lanes):
            for lane, held in zip(lanes, steps, strict=True):
                with lane.turn():
                    held.take(given)
        if batch.images.device.type == "cuda":
            torch.cuda.synchronize(batch.images.device)
        return time.perf_counter() - start

    take(NUM_EAGER_STEPS + NUM_WARM_UP_STEPS)
    number, seconds = 1, 0.0
    while (seconds := take(number)) < min_seconds:
        number *= 2
    return number / seconds


def _has_room(device: torch.device, number: int) -> bool:
    """Return whether a GPU has room for as much again as a run takes on the mean."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return free >= torch.cuda.max_memory_reserved(device) / number


def _evaluate_once(
    network: MultiTaskNetwork, spec: RunSpec, info: DataInfo, device: torch.device
) -> None:
    """Predict and measure a batch as an evaluation does: its batches are larger than steps'."""
    size = min(EVALUATION_BATCH_SIZE, spec.data.num_validation)
    batch = _random_batch(replace(spec, batch_size=size, micro_batches=1), info, device)
    network.eval()
    with torch.inference_mode():
        predictions = predict(network, spec, batch.images)
        for task in spec.tasks:
            pooled = task_of(task).metrics(info)
            pooled.update(predictions[task], batch.targets[task], batch.valid[task])


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _random_batch(spec: RunSpec, info: DataInfo, device: torch.device) -> Batch:
    """Return images and a target for each task, every pixel valid."""
    generator = torch_stream(spec.seed, "probe")
    shape = (spec.batch_size, spec.data.height, spec.data.width)
    images = torch.rand(shape[0], 3, *shape[1:], generator=generator)
    targets, places = {}, {}
    for task in spec.tasks:
        channels = task_of(task).num_channels(info)
        places[task] = shape if task_of(task).is_map else shape[:1]
        if task_of(task).declared.loss_kind == "classification":
            targets[task] = torch.randint(channels, places[task], generator=generator)
        else:
            vector = (shape[0], channels, *places[task][1:])
            targets[task] = torch.rand(vector, generator=generator)
    return Batch(
        images.to(device).contiguous(memory_format=memory_format(spec)),
        {task: target.to(device) for task, target in targets.items()},
        {task: torch.ones(places[task], dtype=torch.bool, device=device) for task in spec.tasks},
    )


def _kept_bytes(forward: Callable[[], Tensor], network: nn.Module) -> int:
    """Return the bytes that `forward` keeps for a backward pass beside the network's own tensors.

    Tensors of one storage count once. Under autocast this holds the parameters' copies in
    bfloat16 too.
    """
    own = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        forward()
    return sum(kept.values())


def _step_seconds(
    stepper: Stepper, batch: Batch, spec: RunSpec, num_steps: int, min_seconds: float
) -> list[float]:
    """Return the seconds of each optimizer step after the warm-up, `num_steps` of them or more."""
    device = batch.images.device
    log = EpochLog(len(spec.tasks), device)
    seconds: list[float] = []
    while (
        len(seconds) < NUM_WARM_UP_STEPS + num_steps
        or sum(seconds[NUM_WARM_UP_STEPS:]) < min_seconds
    ):
        start = time.perf_counter()
        stepper.take_step(batch, spec.optimizer.learning_rate, log)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds[NUM_WARM_UP_STEPS:]
