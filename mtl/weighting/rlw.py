"""Random loss weighting (Lin et al., TMLR 2022)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtl.streams import torch_stream, without_waiting
from mtl.weighting.base import Weighting


class RLW(Weighting):
    r"""Draws new weights at each call: softmax of normal numbers (the paper's RLW, normal).

    The number of a task is a function of (seed, task, number of the call): a resumed run draws
    what the whole one does, and another task in the run, or another order, changes none. Each
    micro-batch is a call. An absent task takes no part in the softmax: the weights of the present
    ones sum to 1.

    Args:
        seed: of the draws.
    """

    last_weights: Tensor

    def __init__(self, tasks: Sequence[str], *, seed: int = 0) -> None:
        super().__init__(tasks)
        self.seed = seed
        self.num_calls = 0
        self.register_buffer("last_weights", torch.full_like(self.period_sums, 1 / len(self.tasks)))

    def get_extra_state(self) -> dict[str, Any]:
        """Return also the number of calls; a draw must not wait for the device to know it."""
        return {**super().get_extra_state(), "num_calls": self.num_calls}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `get_extra_state` returned."""
        super().set_extra_state(state)
        self.num_calls = state["num_calls"]

    @property
    def weights(self) -> Tensor:
        """The weights of the last call, 1/n before it; float64, shape (num_tasks,)."""
        return self.last_weights.clone()

    def _observe(self, losses: Float[Tensor, " tasks"], counted: Bool[Tensor, " tasks"]) -> None:
        self.num_calls += 1
        streams = (torch_stream(self.seed, "rlw", task, self.num_calls) for task in self.tasks)
        draws = torch.stack([torch.randn((), generator=s, dtype=torch.float64) for s in streams])
        shares = torch.where(counted, without_waiting(draws, losses.device).exp(), 0.0)
        self.last_weights.copy_(shares / torch.where(counted.any(), shares.sum(), 1.0))

    def _overall(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        del present
        return (self.last_weights @ losses.double()).to(losses.dtype)
