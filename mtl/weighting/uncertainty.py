"""Uncertainty weighting (Kendall, Gal and Cipolla, CVPR 2018)."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtl.spec.tasks import LossKind
from mtl.weighting.learned import Learned

FACTORS: dict[LossKind, float] = {"regression": 0.5, "classification": 1.0}
"""What stands before e^-s l in the term of a task."""


class Uncertainty(Learned):
    r"""Learns s_i = log sigma_i^2, the noise of each task.

    Overall loss, after the paper's equations (7) and (10) with its approximation of the softmax
    likelihood:

        sum_i  c_i e^{-s_i} l_i + s_i / 2,   c_i = 1/2 (regression), 1 (classification)

    so the weight is c_i e^{-s_i}. It starts at 1/n: s_i = log(n c_i). With l_i held, the minimum
    is where w_i l_i = 1/2: every loss scale the same. The overall loss can be negative: no run
    may be selected by it.

    Args:
        loss_kinds: task -> kind of its loss, `regression` or `classification`.
        weight_lr: learning rate of s, positive. At 1e-4 and 100 steps an epoch it takes 100
            epochs for a weight to change by the factor e.
    """

    factors: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        loss_kinds: Mapping[str, LossKind],
        weight_lr: float = 1e-4,
    ) -> None:
        factors = torch.tensor([FACTORS[loss_kinds[task]] for task in tasks], dtype=torch.float64)
        super().__init__(tasks, factors.log() + math.log(max(len(tasks), 1)), weight_lr)
        self.register_buffer("factors", factors, persistent=False)

    def _terms(
        self, losses: Float[Tensor, " tasks"], logs: Float[Tensor, " tasks"]
    ) -> Float[Tensor, " tasks"]:
        return self.factors * torch.exp(-logs) * losses + logs / 2

    def _log_gradients(
        self, losses: Float[Tensor, " tasks"], logs: Float[Tensor, " tasks"]
    ) -> Float[Tensor, " tasks"]:
        return 0.5 - self.factors * torch.exp(-logs) * losses

    @property
    def weights(self) -> Tensor:
        """c_i e^{-s_i}; float64, shape (num_tasks,)."""
        return self.factors * torch.exp(-self.logs)
