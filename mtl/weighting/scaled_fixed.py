"""Fixed weights in units of the first losses."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtl.weighting.base import Prioritised
from mtl.weighting.first_losses import FIRST_LOSS, FirstLosses


class ScaledFixed(Prioritised):
    r"""Fixed weighting after each loss is measured in units of its first value.

    A baseline between `fixed`, which knows nothing of the losses' units, and `lsb`, which keeps
    following them. With priorities p, the first seen loss l_i(0) and the tasks S seen so far:

        w_i = (p_i / l_i(0)) / sum_{j in S} (p_j / l_j(0)) * sum_{j in S} p_j   for i in S
        w_i = p_i                                                              else

    so the weights sum to 1 always. The first step already uses them.

    Raises:
        ValueError: in a call, naming the task, if its first loss is not positive.
    """

    def __init__(self, tasks: Sequence[str], *, priorities: Sequence[float] | None = None) -> None:
        super().__init__(tasks, priorities=priorities)
        self.first_losses = FirstLosses(len(self.tasks))

    @property
    def weights(self) -> Tensor:
        """The weights now in force; float64, shape (num_tasks,), sum 1."""
        seen = self.first_losses.seen
        scaled = torch.where(seen, self.priorities / self.first_losses.values, 0.0)
        share = torch.where(seen, self.priorities, 0.0).sum()
        return torch.where(seen, scaled / scaled.sum() * share, self.priorities)

    def _observe(self, losses: Float[Tensor, " tasks"], counted: Bool[Tensor, " tasks"]) -> None:
        self._refuse(losses, self.first_losses.keep(losses, counted), *FIRST_LOSS)
