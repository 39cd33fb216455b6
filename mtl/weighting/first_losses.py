"""The first loss that was seen of each task, by which some methods divide."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

FIRST_LOSS = (
    "a positive first loss",
    "Later losses are divided by it; leave the task out or give it a loss above 0.",
)
"""What a weighting expects that divides by the first losses, and the remedy."""


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
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Bool[Tensor, " tasks"]:
        """Keep the positive losses of tasks seen for the first time; later ones change nothing.

        Returns:
            Which tasks' first loss is not positive, for `Weighting._refuse`: it is not kept.
        """
        first = present & ~self.seen
        kept = first & (losses > 0)
        self.values.copy_(torch.where(kept, losses.double(), self.values))
        self.seen |= kept
        return first & ~kept
