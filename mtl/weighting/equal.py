"""Equal weighting: every loss counts 1/n."""

import torch
from torch import Tensor

from mtl.weighting.base import Weighting


class Equal(Weighting):
    """The mean of the task losses (supplement, section 3: each method's first weights)."""

    @property
    def weights(self) -> Tensor:
        """1/n each; float64, shape (num_tasks,)."""
        return torch.full_like(self.period_sums, 1 / len(self.tasks))
