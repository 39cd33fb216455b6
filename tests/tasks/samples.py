"""Random predictions, targets and masks of every task."""

import pytest
import torch
from torch import Tensor

from mtl.data.sample import DataInfo
from mtl.tasks import TASKS

INFO = DataInfo(classes=tuple("abcde"), depth_range_m=(0.5, 10.0))
EVERY_TASK = pytest.mark.parametrize("name", sorted(TASKS))


def sample(name: str, batch: int = 2, size: tuple[int, int] = (4, 5)) -> tuple[Tensor, ...]:
    """Return a random (prediction, target, valid) of the task from seed 3."""
    print("sample seed 3")
    generator = torch.Generator().manual_seed(3)
    channels = TASKS[name].num_channels(INFO)
    prediction = torch.randn(batch, channels, *size, generator=generator) + 2
    if name == "segmentation":
        target = torch.randint(0, channels, (batch, *size), generator=generator)
    elif name == "normal":
        target = torch.nn.functional.normalize(torch.randn(prediction.shape, generator=generator))
    else:
        target = torch.rand(prediction.shape, generator=generator) * 9 + 0.7
    valid = torch.rand(batch, *size, generator=generator) < 0.7
    return prediction, target, valid


def spoilt(values: Tensor, valid: Tensor) -> Tensor:
    """Return values with rubbish at invalid pixels."""
    mask = valid if values.ndim == 3 else valid[:, None].expand_as(values)
    rubbish = float("nan") if values.is_floating_point() else 250
    return torch.where(mask, values, torch.full((), rubbish, dtype=values.dtype))
