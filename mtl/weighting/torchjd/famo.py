"""TorchJD's FAMO (Liu et al., NeurIPS 2023): fast adaptive multi-task optimisation."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import functional_call

from mtl.errors import UsageError
from mtl.spec.methods import OptionValue
from mtl.weighting.base import NOT_FINITE, refuse_losses
from mtl.weighting.inputs import Losses, by_task
from mtl.weighting.ranks import mean_over_ranks
from mtl.weighting.torchjd.base import TorchJD


class FAMO(TorchJD):
    """Learns one logit a task from how much each loss fell in the step just taken.

    An absent task enters as if the run did not have it, counts as unchanged and keeps its logit.
    With several micro-batches the last one is compared. A call waits for the device.

    Args:
        seed: of the library's draws.
        options: `lr` and `weight_decay` of the logits.

    A call raises a `ValueError` that names the losses where the overall loss or its gradient is not
    finite.
    """

    library_module = "torchjd.scalarization"
    waits_for = "step"

    last_weights: Tensor
    last_losses: Tensor
    last_present: Tensor

    def __init__(self, tasks: Sequence[str], *, seed: int = 0, **options: OptionValue) -> None:
        super().__init__("FAMO", tasks, seed, options)
        self.register_buffer("last_weights", torch.zeros_like(self.period_sums))
        self.register_buffer("last_losses", torch.ones_like(self.period_sums))
        self.register_buffer("last_present", torch.zeros_like(self.period_sums, dtype=torch.bool))

    @property
    def weights(self) -> Tensor | None:
        """The gradient d(overall)/d(losses) of the last call; None before the first."""
        return self.last_weights.clone() if self.num_calls else None

    def _observe(self, losses: Float[Tensor, " tasks"], counted: Bool[Tensor, " tasks"]) -> None:
        self.last_losses.copy_(torch.where(counted, losses, 1.0))
        self.last_present.copy_(counted)
        if not counted.any():
            self.last_weights.zero_()
            return
        self.num_calls += 1
        values = losses.double().requires_grad_()
        overall = self._value(values, counted)
        (found,) = torch.autograd.grad(overall, values)
        if not (overall.isfinite() & found.isfinite().all()):
            shown = dict(zip(self.tasks, losses.tolist(), strict=True))
            raise UsageError(
                f"Expected losses for which method {self.method!r} is defined and smooth, "
                f"got {shown}. Leave a task out or choose another method."
            )
        self.last_weights.copy_(torch.where(counted, found, 0.0))

    def _overall(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        if not present.any():
            return losses.sum()  # all zero
        return self._value(losses.double(), present).to(losses.dtype)

    def _value(
        self, values: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        """Return the overall loss of `values`, which are 0 for absent tasks; float64."""
        remembered = self.library._prev_losses
        with self._library_call():
            if present.all():
                overall = self.library(values)
            else:
                shape = (len(self.tasks),)
                own = {
                    **dict(self.library.named_parameters()),
                    **dict(self.library.named_buffers()),
                }
                restricted = {key: own[key][present] for key in own if own[key].shape == shape}
                overall = functional_call(self.library, restricted, (values[present],))
        self.library._prev_losses = remembered  # a call is no step; `_learn` brings its own
        return overall

    def _learn(self, losses_again: Callable[[], Losses] | None) -> None:
        """Move the logits by the change of the log losses.

        Raises:
            ValueError: without `losses_again`, or if one of its losses is not finite.
        """
        if losses_again is None:
            raise UsageError(
                f"Expected losses_again for method {self.method!r}, which compares the losses "
                "before and after a step, got None. Pass a function that computes them again."
            )
        if not self.last_present.any():
            return
        again, _ = by_task(self.tasks, losses_again(), None)
        factors = self._rank_factors.double()
        again = mean_over_ranks(torch.where(factors > 0, factors * again, 0.0), self.process_group)
        again = torch.where(self.last_present, again, 1.0)
        refuse_losses(
            self.tasks, again, ~again.isfinite(), "a finite loss after the step", NOT_FINITE[1]
        )
        (logits,) = self.library.parameters()
        with torch.no_grad():
            before = logits.clone()
            self.library(self.last_losses)  # what the update compares with
            self.library.update(again)
            logits.copy_(torch.where(self.last_present, logits, before))
        self.last_present.zero_()
