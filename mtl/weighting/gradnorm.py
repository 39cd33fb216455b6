"""Gradient normalisation (Chen et al., ICML 2018)."""

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtl.errors import UsageError
from mtl.weighting.base import Weighting, refuse_losses
from mtl.weighting.first_losses import FirstLosses
from mtl.weighting.gradients import gradients, task_roots, trainable
from mtl.weighting.learned import TaskAdam

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
    sum. `forward` alone gives the overall loss and learns nothing.

    Args:
        alpha: at least 0; how strongly slower tasks are helped.
        weight_lr: learning rate of the weights, positive.

    Raises:
        ValueError: in `backward`, without shared parameters or for a first loss that is not
            positive and finite; in `step`, naming the task, for a loss that is negative or not
            finite.
    """

    uses_last_shared_layer: ClassVar[bool] = True

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

    @property
    def weights(self) -> Tensor:
        """The weights now in force; float64, shape (num_tasks,), sum 1."""
        return self.current_weights.clone()

    def backward(
        self,
        losses: Float[Tensor, " tasks"],
        present: Bool[Tensor, " _"] | None = None,
        shared_parameters: Iterable[nn.Parameter] = (),
        task_parameters: Iterable[Iterable[nn.Parameter]] = (),
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
        roots = task_roots(losses)
        losses, present = self._recorded(losses, present)
        self.first_losses.keep(self.tasks, losses, present)
        for i, is_present in enumerate(present.tolist()):
            if is_present:
                found = gradients(roots[i], shared, losses, retain_graph=True)
                # float64: the squares of small gradients underflow in float32.
                flat = torch.cat([g.flatten() for g in found])
                self.norm_sums[i] += torch.linalg.vector_norm(flat, dtype=torch.float64)
        self.loss_sums += losses.detach()
        self.adam.calls += present
        self._overall(losses, present).backward()

    def step(self, losses_again: Callable[[], Float[Tensor, " tasks"]] | None = None) -> None:
        """Update the weights after the norms and losses seen since the last step."""
        del losses_again
        counted = self.adam.calls > 0
        calls = self.adam.calls.clamp(min=1)
        losses, norms = self.loss_sums / calls, self.norm_sums / calls
        refuse_losses(
            self.tasks,
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
