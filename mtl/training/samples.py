"""A few fixed validation images with predictions and error maps, for people to look at.

    STORE/runs/<run_id>/samples/epoch_00010.npz

holds, for the images `indices` of the validation split: `image` uint8 (n, height, width, 3) and for
each task with maps `<task>_prediction`, `<task>_target` (float16 (n, height, width, channels), or
the class uint8 (n, height, width)), `<task>_valid` bool (n, height, width) and `<task>_error`
float16 (n, height, width): the task loss at each pixel without regularisers (supplement, Figures
S-5 and S-7 to S-9), 0 where nothing is valid.
"""

import io

import numpy as np
import torch
from torch import Tensor

from mtl.data.batches import Batch, Split
from mtl.data.sample import DataInfo
from mtl.networks.base import MultiTaskNetwork
from mtl.spec import RunSpec
from mtl.tasks import task_of
from mtl.training.evaluation import predict


def sample_indices(num_images: int, num_samples: int) -> np.ndarray:
    """Return up to `num_samples` image indices, evenly spread over `num_images`."""
    spread = np.linspace(0, num_images - 1, min(num_samples, num_images))
    return np.unique(spread.round().astype(np.int64))


def samples_of(
    network: MultiTaskNetwork, spec: RunSpec, split: Split, info: DataInfo, num_samples: int
) -> bytes:
    """Return the samples of an epoch as a file, of `num_samples` images of `split` at most.

    The network is left in evaluation mode.
    """
    indices = sample_indices(len(split), num_samples)
    batch = split.batch(indices, next(network.parameters()).device)
    network.eval()
    with torch.no_grad():
        predictions = predict(network, spec, batch.images)
        image = (batch.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        arrays = {"indices": indices, "image": image.cpu().numpy()}
        for task in (task for task in spec.tasks if task_of(task).is_map):
            arrays |= _task_arrays(task, predictions[task], batch, info)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _task_arrays(
    task: str, prediction: Tensor, batch: Batch, info: DataInfo
) -> dict[str, np.ndarray]:
    target, valid = batch.targets[task], batch.valid[task]
    error = task_of(task).errors(prediction, target, valid, info)
    classes = target.ndim == 3
    return {
        f"{task}_prediction": _classes(prediction.argmax(1)) if classes else _half(prediction),
        f"{task}_target": _classes(target) if classes else _half(target),
        f"{task}_valid": valid.cpu().numpy(),
        f"{task}_error": _half(error[:, None])[..., 0],
    }


def _classes(labels: Tensor) -> np.ndarray:
    return labels.to(torch.uint8).cpu().numpy()


def _half(values: Tensor) -> np.ndarray:
    """Return (n, channels, height, width) as float16 (n, height, width, channels)."""
    largest = torch.finfo(torch.float16).max
    return values.clamp(-largest, largest).half().permute(0, 2, 3, 1).cpu().numpy()
