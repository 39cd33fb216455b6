"""Loss scale balancing (Lee, Lee and Kim, ICCV 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.weighting.base import Prioritised


class LSB(Prioritised):
    r"""Keeps the loss scales of the tasks in proportion to their priority factors.

    With period t = 1, 2, ..., the mean l_i^t of task loss i over period t (regularisers
    included), the weights w_i^t in force in it and L^t = sum_i w_i^t l_i^t:

        t = 1    w_i = pi_i
        t = 2    w_i = pi_i L^1 / l_i^1
        t >= 3   w_i = alpha D_i pi_i L^{t-1} / l_i^{t-1}
                 D_i = [ (l_i^{t-1} / l_i^{t-2}) / (L^{t-1} / L^{t-2}) ] ^ beta_t
                 alpha such that sum_i alpha D_i pi_i = 1
                 beta_t = increase_rate * epochs elapsed at the start of period t

    The ratio of the L cancels in alpha D_i pi_i, the share of task i in the overall loss if its
    loss stood still, which is therefore

        softmax_i( log pi_i + beta_t log(l_i^{t-1} / l_i^{t-2}) )

    and computed so, in log space: no power overflows, however large beta grows.

    - pi_i: `priorities[i]`; l_i: the losses of a call, averaged by `end_period`;
    - increase_rate: growth of beta per epoch (supplement, section 3: 0.02, 0.05, 0.5); where one
      period is one epoch, as there, beta_t = increase_rate * (t - 1);
    - alpha D_i: `difficulties[i]`, before any clamp; None in the first two periods. Readings of the
      paper differ by a common factor of all weights here, to which AdamW is nearly indifferent.

    The paper does not speak of missing labels. Here a task that is absent for a whole period
    keeps its last mean (its loss ratio is 1 then), and one never seen yet keeps the weight pi_i and
    counts as of difficulty 1; the sum of alpha D_i pi_i is then over the others.

    With `clamp` c a weight changes from one period to the next by a factor within [1/c, c]: the
    w_i^t above is clamped to [w_i^{t-1} / c, c w_i^{t-1}]. The weights are not renormalised after
    it, so each stands by itself: where the clamp does not bind, the weight is that of the
    equations. L^{t-1} is then no longer kept, and L^t and the next weights follow from the clamped
    ones. The earlier code of the first author (ECCV 2020) clamps its factor to [1/2, 2].

    Args:
        increase_rate: at least 0; 0 keeps every difficulty at 1.
        clamp: c, at least 1 (1 freezes the weights); None is off.
    """

    divides_by_means = "loss scale balancing"
    waits_for = "end_period"

    current_weights: Tensor
    last_means: Tensor
    has_mean: Tensor
    current_difficulties: Tensor
    periods_ended: Tensor
    epochs_elapsed: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        priorities: Sequence[float] | None = None,
        increase_rate: float = 0.02,
        clamp: float | None = None,
    ) -> None:
        super().__init__(tasks, priorities=priorities)
        self.increase_rate = increase_rate
        self.clamp = clamp
        self.register_buffer("current_weights", self.priorities.clone())
        self.register_buffer("last_means", torch.ones_like(self.priorities))
        self.register_buffer("has_mean", torch.zeros_like(self.priorities, dtype=torch.bool))
        self.register_buffer("current_difficulties", torch.ones_like(self.priorities))
        self.register_buffer("periods_ended", torch.zeros((), dtype=torch.int64))
        self.register_buffer("epochs_elapsed", torch.zeros((), dtype=torch.float64))

    @property
    def weights(self) -> Tensor:
        """The weights w^t of the period now running; float64, shape (num_tasks,)."""
        return self.current_weights.clone()

    @property
    def difficulties(self) -> Tensor | None:
        """Alpha D_i behind the weights now in force; None before the third period."""
        return self.current_difficulties.clone() if self.periods_ended >= 2 else None

    def _after_priorities(self, before: Tensor) -> None:
        # The share of task i, softmax(log pi_i + ...), is multiplied by pi_i / before_i and they
        # sum to 1 again; L / l_i stay. The clamp binds periods and not this.
        factors = self.priorities / before
        scales = torch.where(self.has_mean, self.current_weights * self.last_means, 0.0)
        moved = (scales * factors).sum()
        scale = torch.where(moved > 0, scales.sum() / moved, torch.ones_like(moved))
        weights = self.current_weights * factors * scale
        self.current_weights.copy_(torch.where(self.has_mean, weights, self.priorities))
        ones = torch.ones_like(weights)
        difficulties = self.current_difficulties * scale
        self.current_difficulties.copy_(torch.where(self.has_mean, difficulties, ones))

    def _update_weights(self, means: Tensor, counted: Tensor, epochs: float) -> None:
        self.periods_ended += 1
        self.epochs_elapsed += epochs
        beta = self.increase_rate * float(self.epochs_elapsed)
        new_means = torch.where(counted, means, self.last_means)
        # Ratio 1 where there is no earlier mean or no newer one.
        log_ratios = torch.where(
            counted & self.has_mean, (new_means / self.last_means).log(), torch.zeros_like(means)
        )
        shares = torch.softmax(self.priorities.log() + beta * log_ratios, dim=0)
        # A task without a mean has no loss scale yet: the others share the overall loss.
        seen = counted | self.has_mean
        overall = (self.current_weights * new_means)[seen].sum()
        shares = shares / shares[seen].sum()
        ones = torch.ones_like(shares)
        self.current_difficulties.copy_(torch.where(seen, shares / self.priorities, ones))
        weights = torch.where(seen, shares * overall / new_means, self.current_weights)
        if self.clamp is not None:
            weights = weights.clamp(
                self.current_weights / self.clamp, self.current_weights * self.clamp
            )
        self.current_weights.copy_(weights)
        self.last_means.copy_(new_means)
        self.has_mean |= counted
