"""Fixed weighting: the weights that the user gave, unchanged for the whole training."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.spec import check_priorities, equal_priorities
from mtl.weighting.base import Weighting


class Fixed(Weighting):
    """The rival of the supplement's Figure S-6: overall loss = sum of w_i l_i.

    Args:
        tasks: distinct names.
        priorities: the weights w, positive, summing to 1; None means equal ones.
    """

    priorities: Tensor

    def __init__(self, tasks: Sequence[str], *, priorities: Sequence[float] | None = None) -> None:
        super().__init__(tasks)
        given = check_priorities(
            equal_priorities(self.tasks) if priorities is None else priorities, self.tasks
        )
        self.register_buffer(
            "priorities", torch.tensor(given, dtype=torch.float64), persistent=False
        )

    @property
    def weights(self) -> Tensor:
        """The given weights; float64, shape (num_tasks,)."""
        return self.priorities.clone()
