"""What the ranks of a distributed training agree on; nothing where nothing is distributed."""

import hashlib
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mtl.errors import UsageError

Group = Any
"""A `ProcessGroup` of the ranks that share the batch, or None for all of them. Some builds of torch
lack the class."""


def num_ranks(group: Group) -> int:
    """Return how many processes train together; 1 where `torch.distributed` is not in use."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size(group)


def sum_over_ranks(values: Tensor, group: Group) -> Tensor:
    """Return the sum over the ranks of a tensor of one shape, in one all-reduce."""
    values = values.detach().clone()
    dist.all_reduce(values, group=group)
    return values


def mean_over_ranks(values: Tensor, group: Group) -> Tensor:
    """Return the mean over the ranks; the tensor itself where there is one."""
    ranks = num_ranks(group)
    return values if ranks == 1 else sum_over_ranks(values, group) / ranks


def check_ranks_agree(settings: str, device: torch.device, group: Group) -> None:
    """Raise on every rank unless all have the same `settings`.

    Args:
        settings: such as method, tasks, priorities and options, in words.
        device: that the ranks' backend can reduce on.
        group: of the ranks.
    """
    digest = int(hashlib.sha256(settings.encode()).hexdigest()[:12], 16)
    extremes = torch.tensor([digest, -digest], dtype=torch.int64, device=device)
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX, group=group)
    largest, smallest = extremes[0].item(), -extremes[1].item()
    if largest != smallest:
        raise UsageError(
            f"Expected the same weighting on every rank, got another than {settings} on some. "
            "Build it with the same method, tasks, priorities, options and seed everywhere, and "
            "load the same state."
        )
