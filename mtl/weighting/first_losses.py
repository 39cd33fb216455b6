"""The first loss that was seen of each task, by which some methods divide."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtl.weighting.base import refuse_losses


class FirstLosses(nn.Module):
    """Keeps l_i(0), the loss of task i in the first call (micro-batch) it was present in.

    Args:
        num_tasks: how many.
    """

    values: Float[Tensor, " tasks"]
    """l_i(0), float64; 1 where none was seen yet."""
    seen: Bool[Tensor, " tasks"]

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.ones(num_tasks, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(num_tasks, dtype=torch.bool))

    def keep(
        self, tasks: Sequence[str], losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> None:
        """Keep the finite losses of tasks seen for the first time; later ones change nothing.

        Raises:
            ValueError: naming the task, if its first loss is not positive.
        """
        if self.seen.all():
            return
        first = present & ~self.seen
        refuse_losses(
            tasks,
            losses,
            first & (losses <= 0),
            "a positive first loss",
            "Later losses are divided by it; leave the task out or give it a loss above 0.",
        )
        self.values.copy_(torch.where(first, losses.double(), self.values))
        self.seen |= first
