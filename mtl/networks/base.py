"""What every architecture has in common: predictions of all tasks, who shares which parameters."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor, nn


class MultiTaskNetwork(nn.Module, ABC):
    """Images in, one prediction a task out."""

    @abstractmethod
    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> dict[str, Float[Tensor, "batch _ height width"]]:
        """Return each task's prediction at the size of `images` (values in [0, 1])."""

    @abstractmethod
    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that several tasks pass through."""

    @abstractmethod
    def task_parameters(self) -> list[list[nn.Parameter]]:
        """Return the parameters that each task passes through beside the shared ones.

        A tensor whose parts belong to several tasks is listed for each of them.
        """

    @abstractmethod
    def last_shared_parameters(self) -> list[nn.Parameter]:
        """Return the weights of the last shared layer, at which GradNorm compares gradients."""

    def cross_stitch_matrix(self) -> Float[Tensor, "tasks tasks"] | None:
        """Return the matrix that mixes the encoders' outputs, or None where there is none."""
        return None


def cut_to_images(
    predictions: dict[str, Float[Tensor, "batch _ padded_height padded_width"]],
    images: Float[Tensor, "batch 3 height width"],
) -> dict[str, Float[Tensor, "batch _ height width"]]:
    """Return the predictions without the rows and columns that stem from the encoder's padding."""
    height, width = images.shape[-2:]
    return {task: p[..., :height, :width] for task, p in predictions.items()}


@contextlib.contextmanager
def kept_statistics(network: nn.Module) -> Iterator[None]:
    """Let forward passes in training mode leave all buffers of `network` as they are.

    The layers work on copies meanwhile. The buffers themselves are never written to, not even
    with their old values, so a backward pass through an earlier forward pass remains possible
    after this, and one through a forward pass under this does too.
    """
    held = [
        (module, name, buffer)
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        for module, name, buffer in held:
            setattr(module, name, buffer.clone())
        yield
    finally:
        for module, name, buffer in held:
            setattr(module, name, buffer)
