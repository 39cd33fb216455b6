"""TorchJD's scalarizers: functions of the task losses."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import functional_call

from mtl.errors import UsageError
from mtl.spec.methods import SCALARIZERS, OptionValue
from mtl.weighting.base import check_positive_mean, refuse_losses
from mtl.weighting.learned import TaskAdam
from mtl.weighting.torchjd.base import TorchJD


class TorchJDScalarizer(TorchJD):
    """Overall loss = scalarizer(losses of the present tasks), in the library's own scale.

    An absent task enters as if the run did not have it: the scalarizer sees the present losses
    and the present tasks' entries of its own vectors (weights, log-variances). Where the library
    asks for weights they are 1/n.

    A call waits for the device. It raises a `ValueError` that names the tasks where a loss, the
    overall loss or its gradient is not finite.

    Args:
        name: of the scalarizer, in `mtl.spec.methods.SCALARIZERS`.
        tasks: distinct names.
        seed: of the draws of those that draw.
        options: of the scalarizer; those left out are as in `mtl.spec.methods`.
    """

    library_module = "torchjd.scalarization"

    last_weights: Tensor

    def __init__(
        self, name: str, tasks: Sequence[str], *, seed: int = 0, **options: OptionValue
    ) -> None:
        defaults = {k: v for k, v in SCALARIZERS[name].options.items() if k != "weight_lr"}
        super().__init__(name, tasks, seed, {**defaults, **options})
        self.register_buffer("last_weights", torch.zeros_like(self.period_sums))

    @property
    def weights(self) -> Tensor | None:
        """The gradient d(overall)/d(losses) of the last call; None before the first.

        Their sum is the library's: n for Sum and DWA, n/2 for UW, and so on.
        """
        return self.last_weights.clone() if self.num_calls else None

    def _overall(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        refuse_losses(
            self.tasks,
            losses.detach(),
            ~losses.isfinite(),
            "a finite loss",
            "Lower the learning rate or look at its targets.",
        )
        if not present.any():
            self.last_weights.zero_()
            return losses.sum()  # all zero
        with torch.enable_grad(), self._library_call():
            values = losses if losses.requires_grad else losses.detach().requires_grad_()
            values = values.double()
            overall = self._value(values, present)
            (found,) = torch.autograd.grad(overall, values, retain_graph=True)
        if not (overall.isfinite() & found.isfinite().all()):
            shown = dict(zip(self.tasks, losses.tolist(), strict=True))
            raise UsageError(
                f"Expected losses for which method {self.method!r} is defined and smooth, "
                f"got {shown}. Leave a task out or choose another method."
            )
        self.last_weights.copy_(torch.where(present, found, 0.0))
        return overall.to(losses.dtype)

    def _value(
        self, values: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        """Return the overall loss of `values`, which are 0 for absent tasks; float64."""
        if present.all():
            return self.library(values)
        shape = (len(self.tasks),)
        own = {**dict(self.library.named_parameters()), **dict(self.library.named_buffers())}
        restricted = {key: own[key][present] for key in own if own[key].shape == shape}
        return functional_call(self.library, restricted, (values[present],))


class TorchJDLearned(TorchJDScalarizer):
    """A scalarizer with learned numbers, one a task, moved by an own Adam without weight decay.

    A task absent from a whole step keeps its number and the state of its Adam. UW takes every loss
    for a regression; our own `uncertainty` tells classifications from them.

    Args:
        name: of the scalarizer.
        tasks: distinct names.
        seed: unused; these draw nothing.
        weight_lr: learning rate of its numbers, positive.
    """

    def __init__(
        self, name: str, tasks: Sequence[str], *, seed: int = 0, weight_lr: float = 1e-4
    ) -> None:
        super().__init__(name, tasks, seed=seed)
        self.adam = TaskAdam(len(self.tasks), weight_lr)

    def _overall(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        overall = super()._overall(losses, present)
        self.adam.calls += present
        return overall

    def step(self, losses_again: Callable[[], Float[Tensor, " tasks"]] | None = None) -> None:
        """Move the numbers by Adam, after the gradients that `backward` has left."""
        del losses_again
        for parameter in self.library.parameters():
            self.adam.descend(parameter)


class TorchJDDWA(TorchJDScalarizer):
    """TorchJD's DWA, told the period means by `end_period`; its weights sum to n.

    A task absent for a whole period keeps its last mean, so that its ratio is 1.
    """

    last_means: Tensor
    has_mean: Tensor
    periods_ended: Tensor

    def __init__(
        self, name: str, tasks: Sequence[str], *, seed: int = 0, **options: OptionValue
    ) -> None:
        super().__init__(name, tasks, seed=seed, **options)
        self.register_buffer("last_means", torch.ones_like(self.period_sums))
        self.register_buffer("has_mean", torch.zeros_like(self.period_sums, dtype=torch.bool))
        self.register_buffer("periods_ended", torch.zeros((), dtype=torch.int64))

    def _value(
        self, values: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        # Linear in the losses: the zero of an absent task adds nothing.
        del present
        return self.library(values)

    def _check_mean(self, task: str, mean: float) -> None:
        super()._check_mean(task, mean)
        check_positive_mean(task, mean, "dynamic weight average")

    def _update_weights(self, means: Tensor, counted: Tensor, epochs: float) -> None:
        del epochs
        self.periods_ended += 1
        newer = torch.where(counted, means, self.last_means)
        older = torch.where(counted & self.has_mean, self.last_means, newer)
        # The library means over calls and knows no absent task: hand it the period means instead.
        self.library.reset()
        for mean in (older, newer) if self.periods_ended >= 2 else (newer,):
            self.library(mean)
            self.library.step()
        self.last_means.copy_(newer)
        self.has_mean |= counted


class TorchJDFAMO(TorchJDScalarizer):
    """TorchJD's FAMO; `step` tells it how the last call's losses have changed.

    A task absent from the last call counts as unchanged and keeps its logit. With several
    micro-batches the last one is compared.
    """

    last_losses: Tensor
    last_present: Tensor

    def __init__(
        self, name: str, tasks: Sequence[str], *, seed: int = 0, **options: OptionValue
    ) -> None:
        super().__init__(name, tasks, seed=seed, **options)
        self.register_buffer("last_losses", torch.ones_like(self.period_sums))
        self.register_buffer("last_present", torch.zeros_like(self.period_sums, dtype=torch.bool))

    def _overall(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        overall = super()._overall(losses, present)
        self.last_losses.copy_(torch.where(present, losses.detach(), 1.0))
        self.last_present.copy_(present)
        return overall

    def step(self, losses_again: Callable[[], Float[Tensor, " tasks"]] | None = None) -> None:
        """Move the logits by the change of the log losses.

        Raises:
            ValueError: without `losses_again`, or if one of its losses is not finite.
        """
        if losses_again is None:
            raise UsageError(
                f"Expected losses_again for method {self.method!r}, which compares the losses "
                "before and after a step, got None. Pass a function that computes them anew."
            )
        if not self.last_present.any():
            return
        again = torch.where(self.last_present, losses_again().double(), 1.0)
        refuse_losses(
            self.tasks,
            again,
            ~again.isfinite(),
            "a finite loss after the step",
            "Lower the learning rate or look at its targets.",
        )
        (logits,) = self.library.parameters()
        with torch.no_grad():
            before = logits.clone()
            self.library(self.last_losses)  # what the update compares with
            self.library.update(again)
            logits.copy_(torch.where(self.last_present, logits, before))
        self.last_present.zero_()


SCALARIZER_ADAPTERS: dict[str, type[TorchJDScalarizer]] = {
    **dict.fromkeys(SCALARIZERS, TorchJDScalarizer),
    "DWA": TorchJDDWA,
    "FAMO": TorchJDFAMO,
    "IMTLL": TorchJDLearned,
    "UW": TorchJDLearned,
}
