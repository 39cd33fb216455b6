"""The network of a run: built, loaded, applied in its precision and layout, measured on a split."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mtl.data.batches import Split, evaluation_batches
from mtl.data.sample import DataInfo
from mtl.errors import StoreError, UsageError
from mtl.networks import MultiTaskNetwork, build_network
from mtl.records import TaskMetrics
from mtl.spec import OwnSpec, RunSpec, Runtime
from mtl.spec.code import check_code
from mtl.store import Store
from mtl.store.states import read_run
from mtl.tasks import task_of
from mtl.training.checkpoint import load_weights
from mtl.training.ranks import ALONE, Ranks

EVALUATION_BATCH_SIZE = 32


def memory_format(spec: RunSpec) -> torch.memory_format:
    """Return the memory layout of the run's images and convolutions."""
    return torch.channels_last if spec.channels_last else torch.contiguous_format


def set_arithmetic(spec: RunSpec) -> None:
    """Let GPUs compute in this process as the run's precision says.

    torch's defaults would round products within float32 convolutions to TF32, and those of matrices
    not. cuDNN may try its algorithms out: the sizes of images and batches stay the same.
    """
    kind = "tf32" if spec.precision == "tf32" else "ieee"
    torch.backends.cudnn.conv.fp32_precision = kind  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = kind
    torch.backends.cudnn.benchmark = True


def new_network(
    spec: RunSpec, info: DataInfo, weights_file: str | None = None, *, from_scratch: bool = False
) -> MultiTaskNetwork:
    """Return the untrained network of a run, on the CPU.

    `weights_file` is the one that `spec.network.encoder_weights` names by its hash. `from_scratch`,
    where the values do not matter, it starts from random weights whatever the spec names.

    Raises:
        ValueError: if the network cannot be built.
    """
    network = replace(spec.network, encoder_weights="random") if from_scratch else spec.network
    return build_network(
        network,
        {task: task_of(task).num_channels(info) for task in spec.tasks},
        spec.seed,
        weights_file,
        image_size=(spec.data.height, spec.data.width),
    )


def device_of(runtime: Runtime) -> torch.device:
    """Return the device that a run is trained on."""
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("Expected a CUDA GPU for device 'cuda', found none. Use --device cpu.")
    if runtime.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(runtime.device)


def load_network(store: Store | str | Path, run_id: str) -> MultiTaskNetwork:
    """Return the network of a finished run, in evaluation mode on the CPU.

    Its weights are those of the selected epoch: the last one unless `selection` says otherwise.
    `store` may be the store's folder or address.

    Raises:
        StoreError: if there is no store, no such run in it, the run is not done or its weights
            were not kept.
    """
    if not isinstance(store, Store):
        store = Store(store, create=False)
    if store.kind(store.run_key(run_id)) == "absent":
        raise StoreError(
            f"Expected a run of {store.place('')}, got {run_id}, which it does not hold. "
            "`python -m mtl.store list` names its runs."
        )
    run = read_run(store, run_id)
    if run.state != "done" or run.spec is None:
        raise StoreError(
            f"Expected a finished run, got {run_id}, which is {run.state}: "
            f"{run.reason.rstrip('.')}. Train it first."
        )
    spec, manifest = run.spec, store.manifest(run_id) or {}
    if isinstance(spec, OwnSpec):
        raise StoreError(
            f"Expected a run of this project's networks, got {run_id}, which {spec.train} trained. "
            f"What it saved last lies in {store.place(store.run_key(run_id, 'checkpoint'))}."
        )
    try:
        held = manifest["data"]["info"]
        shortest, longest = held["depth_range_m"]
        info = DataInfo(classes=tuple(held["classes"]), depth_range_m=(shortest, longest))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"Expected classes and depth range of the data in the manifest of run {run_id}, got a "
            "damaged one. Train the run again."
        ) from error
    check_code(spec.code)
    # Whatever the encoder started from, its weights are those of the run now.
    network = new_network(spec, info, from_scratch=True)
    load_weights(store, run_id, network)
    return network.eval()


def predict(network: MultiTaskNetwork, spec: RunSpec, images: Tensor) -> dict[str, Tensor]:
    """Return each task's prediction, float32, computed in the run's precision.

    Args:
        network: in training or evaluation mode, on the images' device.
        spec: the run.
        images: (batch, 3, height, width), values in [0, 1].

    Raises:
        UsageError: in training mode, if batch norm has a single value a channel.
    """
    images = images.contiguous(memory_format=memory_format(spec))
    rounded = spec.precision == "bf16"
    try:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=rounded):
            predictions = network(images)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UsageError(
            "Batch norm has a single value a channel for a batch of one image whose feature map is "
            "one pixel. Use larger images, a smaller network.encoder_stride, or a batch_size "
            "(and micro_batches) that leave no batch of one image."
        ) from error
    return {task: _of_task(task, found.float()) for task, found in predictions.items()}


def _of_task(task: str, prediction: Tensor) -> Tensor:
    """Return the mean of a map where the task wants one vector an image, (batch, channels)."""
    is_map = task_of(task).is_map or prediction.ndim != 4
    return prediction if is_map else prediction.mean(dim=(2, 3))


def evaluate(
    network: MultiTaskNetwork,
    spec: RunSpec,
    split: Split,
    info: DataInfo,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> TaskMetrics:
    """Return the metrics of `network` over a whole split; it is left in evaluation mode.

    Each of several ranks takes a share of the batches, and all return the metrics of the split.
    """
    accumulators = {task: task_of(task).metrics(info) for task in split.tasks}
    network.eval()
    with torch.inference_mode():
        for batch in evaluation_batches(
            split,
            batch_size=EVALUATION_BATCH_SIZE,
            device=device,
            rank=ranks.rank,
            num_ranks=ranks.number,
        ):
            predictions = predict(network, spec, batch.images)
            for task, accumulator in accumulators.items():
                accumulator.update(predictions[task], batch.targets[task], batch.valid[task])
    if ranks.are_several:
        own = {task: [part.cpu() for part in held.totals] for task, held in accumulators.items()}
        accumulators = {task: task_of(task).metrics(info) for task in split.tasks}
        for of_rank in ranks.gathered(own):
            for task, totals in of_rank.items():
                if totals:
                    accumulators[task].add(totals)
    return {task: accumulator.compute() for task, accumulator in accumulators.items()}
