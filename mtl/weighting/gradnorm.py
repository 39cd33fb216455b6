"""Gradient normalisation (Chen et al., ICML 2018)."""

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.amp import GradScaler

from mtl.errors import UsageError
from mtl.weighting.base import Weighting
from mtl.weighting.first_losses import FIRST_LOSS, FirstLosses
from mtl.weighting.gradients import gradients, task_roots, trainable
from mtl.weighting.inputs import Losses, Present, by_task
from mtl.weighting.learned import TaskAdam
from mtl.weighting.ranks import mean_over_ranks

MIN_SHARE = 0.01
"""A weight is at least this part of an equal weight before the weights are renormalised."""


def weight_gradients(
    weights: Float[Tensor, " tasks"],
    norms: Float[Tensor, " tasks"],
    ratios: Float[Tensor, " tasks"],
    counted: Bool[Tensor, " tasks"],
    alpha: float,
) -> Float[Tensor, " tasks"]:
    """Return d/dw of sum_i |G_i - target_i| over the counted tasks; 0 for the others.

    Args:
        weights: w, positive.
        norms: of the unweighted gradients, so that G_i = w_i norms_i.
        ratios: l_i / l_i(0), at least 0.
        counted: which tasks enter the means and the sum.
        alpha: the power of the relative inverse training rate.
    """
    num_counted = counted.sum().clamp(min=1)
    mean_ratio = torch.where(counted, ratios, 0.0).sum() / num_counted
    # Losses that are all 0 train at the same rate.
    rates = torch.where(mean_ratio > 0, ratios / mean_ratio, 1.0)
    scaled = weights * norms
    targets = torch.where(counted, scaled, 0.0).sum() / num_counted * rates**alpha
    return torch.where(counted, torch.sign(scaled - targets) * norms, 0.0)


class GradNorm(Weighting):
    r"""Brings the gradient norms at the last shared layer W to common size and training rates.

    The weights descend, by an own Adam, on the paper's equation (2):

        sum_i | G_i - target_i |,   G_i = w_i ||grad_W l_i||,   target_i = mean_j(G_j) r_i^alpha
        r_i = (l_i / l_i(0)) / mean_j(l_j / l_j(0))

    in which the targets are constants, so that the gradient is sign(G_i - target_i) ||grad_W l_i||
    and no second derivative is needed. Then weights below MIN_SHARE/n are raised to it and all
    are renormalised to sum 1 (the paper: n). All parameters, decoders included, get the gradient
    of sum_i w_i l_i with the weights before that update.

    Each micro-batch takes one backward pass a task, down to W alone, and a whole one; norms and
    losses are averaged over the micro-batches of a step in which the task was present. A task
    absent from all of them is left out of the means and keeps its weight; the others keep their
    sum. `forward` alone gives the overall loss and learns nothing. Over several ranks the gradient
    at W is that of the whole batch: one more all-reduce a task, of the size of W.

    Args:
        alpha: at least 0; how strongly slower tasks are helped.
        weight_lr: learning rate of the weights, positive.

    Raises:
        ValueError: in `backward`, without shared parameters or for a first loss that is not
            positive; in `step`, naming the task, for a loss that is negative or a gradient that is
            not finite, and if only the weighting itself was called.
    """

    uses_last_shared_layer: ClassVar[bool] = True
    waits_for = "step"

    current_weights: Tensor
    norm_sums: Tensor
    loss_sums: Tensor

    def __init__(
        self, tasks: Sequence[str], *, alpha: float = 1.5, weight_lr: float = 0.025
    ) -> None:
        super().__init__(tasks)
        self.alpha = alpha
        self.adam = TaskAdam(len(self.tasks), weight_lr)
        self.first_losses = FirstLosses(len(self.tasks))
        equal = torch.full_like(self.period_sums, 1 / len(self.tasks))
        self.register_buffer("current_weights", equal)
        self.register_buffer("norm_sums", torch.zeros_like(equal))
        self.register_buffer("loss_sums", torch.zeros_like(equal))
        self._forward_calls = self._backward_calls = 0

    @property
    def weights(self) -> Tensor:
        """The weights now in force; float64, shape (num_tasks,), sum 1."""
        return self.current_weights.clone()

    def forward(self, losses: Losses, present: Present | None = None) -> Float[Tensor, ""]:
        """Return the overall loss; nothing is learnt of the gradients."""
        self._forward_calls += self._is_learning
        return super().forward(losses, present)

    def backward(
        self,
        losses: Losses,
        present: Present | None = None,
        shared_parameters: Iterable[nn.Parameter] = (),
        task_parameters: Iterable[Iterable[nn.Parameter]] = (),
        scaler: GradScaler | None = None,
    ) -> None:
        """Accumulate the gradients of the overall loss; keep each task's norm at W.

        W, the last shared layer, is `shared_parameters`; `task_parameters` are not used.
        """
        del task_parameters
        shared = trainable(shared_parameters)
        if not shared:
            raise UsageError(
                "Expected shared_parameters for method 'gradnorm', which compares the tasks' "
                "gradients there, got none. Choose an architecture that shares parameters."
            )
        losses, here = by_task(self.tasks, losses, present)
        roots, raw = task_roots(losses), losses
        losses, present, counted = self._received(losses, here)
        known = torch.where(counted, losses.detach(), 0.0)
        self._refuse(known, self.first_losses.keep(known, counted), *FIRST_LOSS)
        one = torch.ones_like(raw[0]).detach()
        factor = one if scaler is None else scaler.scale(one)
        found_norms = []
        for i, root in enumerate(roots):
            # Also of absent tasks, whose gradients do not count: who is here only the device knows.
            found = gradients(root, shared, factor * self._rank_factors[i], True)
            # float64: the squares of small gradients underflow in float32.
            flat = torch.cat([g.flatten() for g in found]).double() / factor
            flat = mean_over_ranks(torch.where(here[i], flat, 0.0), self.process_group)
            found_norms.append(torch.linalg.vector_norm(flat))
        norms = torch.where(counted, torch.stack(found_norms), 0.0)
        if self.skip_nonfinite or scaler is not None:
            counted = counted & norms.isfinite().all()
        self.norm_sums += torch.where(counted, norms, 0.0)
        self.loss_sums += torch.where(counted, known, 0.0)
        self.adam.calls += counted
        self._backward_calls += 1
        overall = self._overall(losses, present)
        (overall if scaler is None else scaler.scale(overall)).backward()

    def _learn(self, losses_again: Callable[[], Losses] | None) -> None:
        """Update the weights after the norms and losses seen since the last step."""
        del losses_again
        forward_calls, backward_calls = self._forward_calls, self._backward_calls
        self._forward_calls = self._backward_calls = 0
        if forward_calls and not backward_calls:
            raise UsageError(
                "Expected calls of backward(losses, shared_parameters=...) for method 'gradnorm', "
                "which compares the tasks' gradients, got calls of the weighting itself."
            )
        counted = self.adam.calls > 0
        calls = self.adam.calls.clamp(min=1)
        losses, norms = self.loss_sums / calls, self.norm_sums / calls
        self._refuse(
            losses,
            ~(losses.isfinite() & (losses >= 0) & norms.isfinite()),
            "a finite loss of at least 0, with finite gradients,",
            "Lower the learning rate or look at its targets.",
        )
        before = self.current_weights
        ratios = losses / self.first_losses.values
        found = weight_gradients(before, norms, ratios, counted, self.alpha)
        smallest = MIN_SHARE / len(self.tasks)
        moved = (before + self.adam.change(found, counted)).clamp(min=smallest)
        # Those counted share what they had together; with all counted that is 1.
        total, kept = (torch.where(counted, w, 0.0).sum() for w in (moved, before))
        self.current_weights.copy_(torch.where(counted, moved / total * kept, before))
        for sums in (self.norm_sums, self.loss_sums, self.adam.calls):
            sums.zero_()
