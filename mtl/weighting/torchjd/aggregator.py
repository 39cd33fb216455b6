"""TorchJD's aggregators: functions of the Jacobian of the task losses."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.autograd.graph import GradientEdge

from mtl.errors import UsageError
from mtl.spec.methods import OptionValue
from mtl.streams import global_stream
from mtl.weighting.base import NOT_FINITE
from mtl.weighting.gradients import gradients, left_out, raw_gradients, task_roots, trainable
from mtl.weighting.inputs import Losses, Present, by_task, in_order
from mtl.weighting.ranks import mean_over_ranks
from mtl.weighting.torchjd.base import TorchJD


class TorchJDAggregator(TorchJD):
    """Combines the gradients of the tasks at the parameters they share.

    The parameters of a task alone get the gradient of its own loss, unweighted. The shared ones
    get aggregator(J), where row i of J is the gradient of task i over all of them. Both are added
    to `.grad`. This happens in each micro-batch: with several, the aggregations are summed, not
    the Jacobians.

    An absent task has no row, except with aggregators that remember something of each task: there
    its row is zero. For PCD, which turns the others around the first task, a batch without the
    first moves no shared parameter.

    A backward pass a task; J takes num_tasks times the memory of the shared parameters. There is
    no overall loss, so a call of the weighting itself is refused. Over several ranks J and the
    gradients of each task alone are reduced here, since `DistributedDataParallel` sees none of
    them.

    Args:
        name: of the aggregator, in `mtl.spec.methods.TORCHJD_METHODS`.
        seed: of the draws of those that draw.
        options: of the aggregator.

    Raises:
        ValueError: also for a number of tasks that the aggregator refuses.
    """

    library_module = "torchjd.aggregation"

    def __init__(
        self, name: str, tasks: Sequence[str], *, seed: int = 0, **options: OptionValue
    ) -> None:
        super().__init__(name, tasks, seed, options)
        self.last_weights: Tensor | None = None
        self._checked_lists: list[list[int]] = []
        self._unchecked: set[int] = set()
        """Tasks without labels so far, whose part in the lists nobody has seen."""
        # One try, on an object of its own: too few tasks are refused now, not after data loading.
        with self._failures_as_sentences(), global_stream(seed, "torchjd", "trial"):
            self._built(name, options)(torch.eye(len(self.tasks), dtype=torch.float64))
        self.keeps_state = hasattr(self.library, "reset")
        base = importlib.import_module(self.library_module).WeightedAggregator
        if isinstance(self.library, base):
            self.library.weighting.register_forward_hook(self._keep_weights)

    def _keep_weights(self, module: nn.Module, inputs: Any, weights: Tensor) -> None:
        del module, inputs
        self.last_weights = weights.detach().double().clone()

    @property
    def weights(self) -> Tensor | None:
        """Weights of the rows of J in the last call, 0 for absent tasks; float64, (num_tasks,).

        They hold for the shared parameters only. None before the first call, and always for
        aggregators that are no weighted sum of the rows.
        """
        return None if self.last_weights is None else self.last_weights.clone()

    def forward(self, losses: Losses, present: Present | None = None) -> Float[Tensor, ""]:
        """Refuse: there is no overall loss."""
        del losses, present
        raise UsageError(
            f"Expected a call of backward for method {self.method!r}, which combines gradients and "
            "has no overall loss, got a call of the weighting itself."
        )

    def backward(
        self,
        losses: Losses,
        present: Present | None = None,
        shared_parameters: Iterable[nn.Parameter] = (),
        task_parameters: Iterable[Iterable[nn.Parameter]]
        | Mapping[str, Iterable[nn.Parameter]] = (),
        scaler: GradScaler | None = None,
    ) -> None:
        """Add the aggregated gradient to the shared parameters, each task's own to its own.

        `task_parameters` may also be a dict by task name.

        Raises:
            ValueError: without shared parameters, if the losses depend on one that is in no list,
                or a task's list holds what another loss depends on and its own does not; naming
                the task, if its loss or gradient is not finite and nothing skips the step; if the
                library cannot combine the gradients.
        """
        shared = trainable(shared_parameters)
        if not shared:
            raise UsageError(
                f"Expected shared_parameters for method {self.method!r}, which combines the tasks' "
                "gradients there, got none. Choose an architecture that shares parameters."
            )
        if isinstance(task_parameters, Mapping):
            task_parameters = in_order(self.tasks, task_parameters, "list of task_parameters")
        own = [trainable(parameters) for parameters in task_parameters] or [[] for _ in self.tasks]
        if len(own) != len(self.tasks):
            raise UsageError(
                f"Expected task_parameters of {len(self.tasks)} tasks, got {len(own)}."
            )
        losses, here = by_task(self.tasks, losses, present)
        self._check_lists(losses, [shared, *own])
        roots = task_roots(losses)
        one = torch.ones_like(losses[0]).detach()
        scale = one if scaler is None else scaler.scale(one)
        losses, present, counted = self._received(losses, here)
        # The library takes rows of the tasks that are there. So a call waits for the device three
        # times (who is there, are the gradients finite, is their sum), beside the library itself.
        is_here, is_present, is_counted = torch.stack([here, present, counted]).tolist()
        rows, own_gradients = [], []
        for i, parameters in enumerate(own):
            if is_here[i]:
                last = not any(is_here[i + 1 :])
                factor = scale * self._rank_factors[i]
                if i in self._unchecked:
                    found = self._checked_gradients(i, roots[i], shared, own, factor, not last)
                else:
                    found = gradients(roots[i], [*shared, *parameters], factor, not last)
            else:
                found = [torch.zeros_like(p) for p in [*shared, *parameters]]
            rows.append(torch.cat([g.flatten() for g in found[: len(shared)]]))
            own_gradients.append(found[len(shared) :])
        jacobian = mean_over_ranks(torch.stack(rows), self.process_group)
        if scaler is not None:
            jacobian = jacobian / scale
        places = [i for i, is_there in enumerate(is_present) if is_there]
        for i in places:
            _accumulate(own[i], [mean_over_ranks(g, self.process_group) for g in own_gradients[i]])
        if not places:
            return
        finite = jacobian.isfinite().all(dim=1).tolist()
        is_skipped = self.skip_nonfinite or scaler is not None
        if is_skipped and not (is_counted == is_present and all(finite)):
            combined = torch.full_like(jacobian[0], torch.nan)
        else:
            self._check_rows(losses, finite)
            combined = self._aggregated(jacobian, places)
            if scaler is not None:
                combined = combined * scale
        parts = combined.split([p.numel() for p in shared])
        _accumulate(shared, [part.view_as(p) for part, p in zip(parts, shared, strict=True)])

    def _check_lists(self, losses: Tensor, lists: list[list[nn.Parameter]]) -> None:
        """Refuse once for each set of lists: the graph is walked, which is slow."""
        key = [[id(parameter) for parameter in parameters] for parameters in lists]
        if key == self._checked_lists:
            return
        missing = left_out(losses, [p for parameters in lists for p in parameters])
        if missing:
            raise UsageError(
                f"Expected in shared_parameters and task_parameters all that the losses depend on, "
                f"for method {self.method!r} gives no other a gradient; got lists without "
                f"{len(missing)} of them, one of shape {tuple(missing[0].shape)}. Pass lists in "
                "each call: a generator is empty after the first."
            )
        self._checked_lists, self._unchecked = key, set(range(len(self.tasks)))

    def _checked_gradients(
        self,
        i: int,
        root: Tensor | GradientEdge,
        shared: list[nn.Parameter],
        own: list[list[nn.Parameter]],
        factor: Float[Tensor, ""],
        retain_graph: bool,
    ) -> list[Tensor]:
        """Return the gradients of task i; refuse lists that do not fit its loss.

        Once a task and set of lists: the same backward pass also gives the gradients at what the
        other tasks list alone, of which a loss that came in one tensor has zeros.
        """
        known = {id(p) for p in [*shared, *own[i]]}
        others = [(j, p) for j, listed in enumerate(own) for p in listed if id(p) not in known]
        wanted = [*shared, *own[i], *(p for _, p in others)]
        found = raw_gradients(root, wanted, factor, retain_graph)
        num_shared, num_wanted = len(shared), len(shared) + len(own[i])
        task, at_own = self.tasks[i], found[num_shared:num_wanted]
        remedy = (
            f"Give one list a task in the order {list(self.tasks)}, or a dict by task; what "
            "several losses depend on belongs in shared_parameters."
        )
        for (j, parameter), gradient in zip(others, found[num_wanted:], strict=True):
            if gradient is not None and (gradient.isfinite() & (gradient != 0)).any():
                raise UsageError(
                    f"Expected in task_parameters of task {self.tasks[j]!r} what no other loss "
                    f"depends on, got a parameter of shape {tuple(parameter.shape)} on which the "
                    f"loss of task {task!r} does. {remedy}"
                )
        is_constant = all(gradient is None for gradient in found)
        if at_own and not is_constant and all(gradient is None for gradient in at_own):
            raise UsageError(
                f"Expected in task_parameters of task {task!r} what its loss depends on, got "
                f"nothing of it. {remedy}"
            )
        self._unchecked.discard(i)
        return [
            torch.zeros_like(p) if g is None else g
            for p, g in zip(wanted[:num_wanted], found, strict=False)
        ]

    def _check_rows(self, losses: Float[Tensor, " tasks"], finite: Sequence[bool]) -> None:
        if not all(finite):
            i = finite.index(False)
            raise UsageError(
                f"Expected a finite gradient of task {self.tasks[i]!r}, got another, at a loss of "
                f"{losses[i].item()}. {NOT_FINITE[1]}"
            )

    def _aggregated(
        self, jacobian: Float[Tensor, "tasks parameters"], places: Sequence[int]
    ) -> Float[Tensor, " parameters"]:
        """Return what the library makes of the rows `places`, of the tasks that are present."""
        self.num_calls += 1
        if not self.keeps_state and len(places) < len(jacobian):
            jacobian = torch.stack([jacobian[i] for i in places])
        with self._library_call(), torch.no_grad():
            combined = self.library(jacobian)
        if not combined.isfinite().all():
            raise UsageError(
                f"Expected method {self.method!r} to combine the gradients of {list(self.tasks)}, "
                "got numbers that are not finite. Choose another method."
            )
        if self.last_weights is not None:
            found = self.last_weights.to(self.period_sums)
            weights = torch.zeros_like(self.period_sums)
            for row, i in enumerate(places):
                weights[i] = found[i if self.keeps_state else row]
            self.last_weights = weights
        return combined

    def get_extra_state(self) -> dict[str, Any]:
        """Return also the weights of the last call."""
        return {**super().get_extra_state(), "last_weights": self.last_weights}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `get_extra_state` returned."""
        super().set_extra_state(state)
        weights = state["last_weights"]
        self.last_weights = None if weights is None else weights.to(self.period_sums, copy=True)


def _accumulate(parameters: Sequence[nn.Parameter], found: Sequence[Tensor]) -> None:
    """Add gradients to `.grad`, as backward does."""
    for parameter, gradient in zip(parameters, found, strict=True):
        if parameter.grad is None:
            # In the parameter's layout, as backward leaves it: fused optimizers rely on that.
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        else:
            parameter.grad += gradient
