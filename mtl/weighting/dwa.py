"""Dynamic weight average (Liu, Johns and Davison, CVPR 2019)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.weighting.base import Weighting


class DWA(Weighting):
    r"""Gives more weight to the tasks whose losses fall more slowly.

    With the mean l_i^t of task loss i, unweighted, over period t (the paper's equation (7)):

        t <= 2   w_i = 1/n
        t >= 3   w_i = softmax_i(r_i / T),   r_i = l_i^{t-1} / l_i^{t-2}

    The paper's weights sum to n; these sum to 1, so that each method begins as the mean of the
    losses. A task that is absent for a whole period keeps its last mean: its r_i is 1 then, and
    also as long as it has a single mean.

    Args:
        temperature: T, positive; the larger, the nearer to equal weights.
    """

    divides_by_means = "dynamic weight average"
    waits_for = "end_period"

    current_weights: Tensor
    last_means: Tensor
    has_mean: Tensor
    periods_ended: Tensor

    def __init__(self, tasks: Sequence[str], *, temperature: float = 2.0) -> None:
        super().__init__(tasks)
        self.temperature = temperature
        equal = torch.full_like(self.period_sums, 1 / len(self.tasks))
        self.register_buffer("current_weights", equal)
        self.register_buffer("last_means", torch.ones_like(equal))
        self.register_buffer("has_mean", torch.zeros_like(equal, dtype=torch.bool))
        self.register_buffer("periods_ended", torch.zeros((), dtype=torch.int64))

    @property
    def weights(self) -> Tensor:
        """The weights of the period now running; float64, shape (num_tasks,), sum 1."""
        return self.current_weights.clone()

    def _update_weights(self, means: Tensor, counted: Tensor, epochs: float) -> None:
        del epochs
        self.periods_ended += 1
        ratios = torch.where(counted & self.has_mean, means / self.last_means, 1.0)
        if self.periods_ended >= 2:
            self.current_weights.copy_(torch.softmax(ratios / self.temperature, dim=0))
        self.last_means.copy_(torch.where(counted, means, self.last_means))
        self.has_mean |= counted
