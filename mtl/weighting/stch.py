"""Smooth Tchebycheff scalarisation (Lin et al., ICML 2024)."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtl.weighting.base import Prioritised


class STCH(Prioritised):
    r"""A smooth maximum of the weighted losses; it reaches fronts that are not convex.

    The paper's scalarisation with preferences p, our priorities, and the ideal point 0, which
    losses that are not negative cannot pass; over the tasks that are present:

        n mu log sum_i exp(p_i l_i / mu),   effective weights n p_i softmax_i(p_j l_j / mu)

    The factor n is ours: with equal priorities and losses the effective weights sum to 1, as with
    every other method. The smaller mu, the nearer to the maximum; mu is in the unit of the losses.
    The overall loss of losses 0 is n mu log n, not 0.

    Args:
        mu: positive.
    """

    last_weights: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        priorities: Sequence[float] | None = None,
        mu: float = 0.1,
    ) -> None:
        super().__init__(tasks, priorities=priorities)
        self.mu = mu
        self.register_buffer("last_weights", self.priorities.clone())

    @property
    def weights(self) -> Tensor:
        """Effective weights of the last call; before it p, as if all p_i l_i were equal."""
        return self.last_weights.clone()

    def _exponents(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, " tasks"]:
        # No task at all: the sum over none is no number, and the overall loss 0.
        counted = present | ~present.any()
        return torch.where(counted, self.priorities * losses.double() / self.mu, -torch.inf)

    def _observe(self, losses: Float[Tensor, " tasks"], counted: Bool[Tensor, " tasks"]) -> None:
        shares = torch.softmax(self._exponents(losses, counted), dim=0)
        weights = len(self.tasks) * self.priorities * shares
        self.last_weights.copy_(torch.where(counted, weights, 0.0))

    def _overall(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        overall = len(self.tasks) * self.mu * torch.logsumexp(self._exponents(losses, present), 0)
        return torch.where(present.any(), overall, 0.0).to(losses.dtype)
