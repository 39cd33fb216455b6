"""Means over an epoch of what happened in its steps, without waiting for the device."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class EpochLog:
    """Sums of losses, effective weights and loss scales over the micro-batches of an epoch.

    A task counts only where it has labels. Sums are float64 on the device.

    Args:
        num_tasks: length of every vector.
        device: of the losses.
    """

    def __init__(self, num_tasks: int, device: torch.device) -> None:
        zeros = torch.zeros(num_tasks, dtype=torch.float64, device=device)
        self._counts = zeros.clone()
        self._losses, self._scales, self._weights = zeros.clone(), zeros.clone(), zeros.clone()
        self._all_have_weights = True

    def add(
        self,
        losses: Float[Tensor, " tasks"],
        present: Bool[Tensor, " tasks"],
        weights: Float[Tensor, " tasks"] | None,
    ) -> None:
        """Add a micro-batch.

        Args:
            losses: task losses; what stands for an absent task does not matter.
            present: which tasks have labels.
            weights: effective weights, None where the method has none.
        """
        known = torch.where(present, losses.detach(), torch.zeros_like(losses))
        self._counts += present
        self._losses += known
        if weights is None:
            self._all_have_weights = False
            return
        self._scales += weights * known
        # A running mean, not a sum: of a constant weight it is that weight to the last digit.
        step = (weights - self._weights) / self._counts.clamp(min=1)
        self._weights += torch.where(present, step, torch.zeros_like(step))

    def losses(self) -> list[float | None]:
        """Return the mean loss of each task; None for one that was absent throughout."""
        return self._means(self._losses)

    def loss_scales(self) -> list[float | None] | None:
        """Return the mean of weight x loss; None where the method has no weights."""
        return self._means(self._scales) if self._all_have_weights else None

    def weights(self) -> list[float | None] | None:
        """Return the mean effective weight; None where the method has no weights."""
        if not self._all_have_weights:
            return None
        counts, weights = self._counts.tolist(), self._weights.tolist()
        return [w if count else None for w, count in zip(weights, counts, strict=True)]

    def _means(self, sums: Tensor) -> list[float | None]:
        totals, counts = sums.tolist(), self._counts.tolist()
        return [total / n if n else None for total, n in zip(totals, counts, strict=True)]
