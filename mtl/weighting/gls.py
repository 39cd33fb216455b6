"""Geometric loss strategy (Chennupati et al., CVPR workshops 2019)."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtl.weighting.base import Weighting


class GLS(Weighting):
    r"""The geometric mean of the losses, to which no loss's unit matters but by a common factor.

    Overall loss (the paper's geometric loss strategy) over the k tasks that are present:

        G = exp( 1/k sum_i log l_i ),   effective weights w_i = G / (k l_i)

    in log space and float64: a product of eight losses of 1e-6 would underflow in float32.

    A call raises a `ValueError` that names the task if the loss of a present task is not positive;
    to do so it waits for the device once, unless `skip_nonfinite` leaves that to `end_period`.
    """

    last_weights: Tensor

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks)
        self.register_buffer("last_weights", torch.full_like(self.period_sums, 1 / len(self.tasks)))

    @property
    def weights(self) -> Tensor:
        """G / (k l_i) of the last call, 1/n before it; float64, shape (num_tasks,)."""
        return self.last_weights.clone()

    def _observe(self, losses: Float[Tensor, " tasks"], counted: Bool[Tensor, " tasks"]) -> None:
        self._refuse(
            losses,
            counted & (losses <= 0),
            "a positive loss",
            "The geometric mean has none other; leave the task out or give it a loss that stays "
            "above 0.",
        )
        logs = torch.where(counted, losses.double(), 1.0).log()
        shares = torch.where(counted, torch.exp(-logs), 0.0) / counted.sum().clamp(min=1)
        self.last_weights.copy_(_geometric_mean(losses, counted) * shares)

    def _overall(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        return _geometric_mean(losses, present).to(losses.dtype)


def _geometric_mean(
    losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
) -> Float[Tensor, ""]:
    """Return that of the present ones, float64; 0 where there is none."""
    logs = torch.where(present, losses.double(), 1.0).log()
    mean = torch.exp(logs.sum() / present.sum().clamp(min=1))
    return torch.where(present.any(), mean, 0.0)
