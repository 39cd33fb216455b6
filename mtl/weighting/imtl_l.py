"""The loss balance of impartial multi-task learning (Liu et al., ICLR 2021)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtl.weighting.learned import Learned


class IMTLL(Learned):
    r"""Learns logarithms s_i that bring every loss to the same size.

    Overall loss (the paper's IMTL-L, its loss balance):

        sum_i  e^{s_i} l_i - s_i

    so the weight is e^{s_i}; with l_i held, the minimum is where w_i l_i = 1. It starts at 1/n:
    s_i = -log n; the paper starts at 1, the same up to a common factor. In log weights it is
    uncertainty weighting with a twice as strong pull against small weights. The overall loss can
    be negative.

    Args:
        weight_lr: learning rate of s, positive.
    """

    def __init__(self, tasks: Sequence[str], *, weight_lr: float = 1e-4) -> None:
        start = torch.full((len(tasks),), -math.log(max(len(tasks), 1)), dtype=torch.float64)
        super().__init__(tasks, start, weight_lr)

    def _terms(
        self, losses: Float[Tensor, " tasks"], logs: Float[Tensor, " tasks"]
    ) -> Float[Tensor, " tasks"]:
        return torch.exp(logs) * losses - logs

    def _log_gradients(
        self, losses: Float[Tensor, " tasks"], logs: Float[Tensor, " tasks"]
    ) -> Float[Tensor, " tasks"]:
        return torch.exp(logs) * losses - 1

    @property
    def weights(self) -> Tensor:
        """e^{s_i}; float64, shape (num_tasks,)."""
        return torch.exp(self.logs)
