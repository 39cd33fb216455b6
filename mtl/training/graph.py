"""Steps on a GPU as CUDA graphs: recorded once, then launched in one piece.

An eager step launches thousands of small kernels, which for small images and networks takes the
host longer than the GPU. A graph reads its batch from buffers that stay where they are. The last
batch of an epoch, which may be shorter, has a graph of its own: padded, its images would enter the
statistics of batch norm.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mtl.data.batches import Batch
from mtl.spec import RunSpec
from mtl.spec.code import is_reference
from mtl.spec.methods import OWN_METHODS
from mtl.training.step import EpochLog, Stepper

NUM_EAGER_STEPS = 3
"""With a batch of each size before its graph is recorded: cuDNN and the allocator settle."""
DRAWS_ON_THE_HOST = "rlw"

Take = Callable[[], None]


def why_eager(
    spec: RunSpec, device: torch.device, are_wanted: bool, num_ranks: int = 1
) -> str | None:
    """Return why the steps of a run are no graphs, in a few words; None where they are."""
    if device.type != "cuda":
        return "no GPU"
    if not are_wanted:
        return "CUDA graphs were not asked for"
    if num_ranks > 1:
        return f"{num_ranks} processes train together"
    if spec.method == DRAWS_ON_THE_HOST:
        return "rlw draws its weights on the host"
    if spec.method not in OWN_METHODS:
        return f"{spec.method} may wait for the device"
    outside = (*spec.tasks, spec.network.architecture, spec.network.encoder)
    if any(map(is_reference, outside)):
        return "code from outside may wait for the device"
    return None


@dataclass
class _Recorded:
    """The steps with batches of one size."""

    batch: Batch
    """The buffers that a graph reads."""
    eager_steps: int = 0
    replay: Take | None = None


class GraphedStepper:
    """Takes the steps of a `Stepper`; from the fourth of a batch's size on as a graph.

    The optimizer must be capturable, with a tensor as learning rate. Where recording fails, a
    warning says so and all further steps are eager.

    Args:
        stepper: takes the eager steps, and is what is recorded.
        log: the one log of all epochs: graphs add to its sums where they are.
        record: of a function that launches a step, returns one that launches it again; the first
            one is launched in neither.
    """

    def __init__(
        self, stepper: Stepper, log: EpochLog, record: Callable[[Take], Take] | None = None
    ) -> None:
        self.stepper, self.log = stepper, log
        self.failure: str | None = None
        """Why there are no graphs after all."""
        self._record = _cuda_graph if record is None else record
        self._by_size: dict[int, _Recorded] = {}

    def take_step(self, batch: Batch, learning_rate: float) -> None:
        """Take a step, as `Stepper.take_step` with the log of all epochs."""
        if self.failure is not None:
            self.stepper.take_step(batch, learning_rate, self.log)
            return
        held = self._by_size.setdefault(len(batch.images), _Recorded(batch))
        self.stepper.set_learning_rate(learning_rate)
        if held.replay is None and held.eager_steps < NUM_EAGER_STEPS:
            held.eager_steps += 1
            self._on_a_side_stream(batch)
            return
        if held.replay is None:
            # A batch's memory may be used again after its step: the buffers are copies.
            held.batch = _mapped(torch.clone, batch)
            try:
                held.replay = self._record(lambda: self.stepper.launch(held.batch, self.log))
            except RuntimeError as error:
                self.failure = str(error).strip().splitlines()[0]
                warnings.warn(
                    f"Expected to record a step as a CUDA graph, got {self.failure!r}. The run "
                    "goes on with eager steps.",
                    stacklevel=2,
                )
                self._by_size.clear()
                self.stepper.launch(batch, self.log)
                return
        else:
            for buffer, values in zip(_tensors(held.batch), _tensors(batch), strict=True):
                buffer.copy_(values, non_blocking=True)
        held.replay()

    def _on_a_side_stream(self, batch: Batch) -> None:
        """Take an eager step where it leaves nothing that ties a later recording to this stream."""
        if batch.images.device.type == "cpu":
            self.stepper.launch(batch, self.log)
            return
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            self.stepper.launch(batch, self.log)
        here.wait_stream(aside)


def _cuda_graph(launch: Take) -> Take:
    graph = torch.cuda.CUDAGraph()
    # What another thread does meanwhile, that of the checkpoints, must not end the recording.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        launch()
    return graph.replay


def _tensors(batch: Batch) -> list[Tensor]:
    return [batch.images, *batch.targets.values(), *batch.valid.values()]


def _mapped(function: Callable[[Tensor], Tensor], batch: Batch) -> Batch:
    return Batch(
        function(batch.images),
        {task: function(target) for task, target in batch.targets.items()},
        {task: function(mask) for task, mask in batch.valid.items()},
    )
