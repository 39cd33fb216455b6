"""A network from outside: any module from images to a dict of predictions by task."""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtl.errors import UsageError, printable
from mtl.networks.base import MultiTaskNetwork, Parts, kept_statistics
from mtl.spec.code import load_object
from mtl.streams import global_stream


def build_own(name: str, parts: Parts) -> MultiTaskNetwork:
    """Return the network that the reference `name` builds.

    A subclass of `MultiTaskNetwork` gets `parts`; anything else is called with task -> channels
    and returns a module. Parameters that it draws from torch's global stream follow the seed.

    Raises:
        ValueError: if it cannot be loaded or built, or gives no module.
    """
    build = load_object(name, "architecture")
    takes_parts = isinstance(build, type) and issubclass(build, MultiTaskNetwork)
    try:
        with global_stream(parts.seed, "network", name):
            built = build(parts if takes_parts else dict(parts.out_channels))
    except UsageError:
        raise
    except Exception as error:
        given = "parts" if takes_parts else "out_channels"
        raise UsageError(
            f"Expected {name}({given}) to build a network, got "
            f"{printable(f'{type(error).__name__}: {error}').rstrip('.')}."
        ) from error
    if takes_parts:
        return built
    if not isinstance(built, nn.Module):
        raise UsageError(
            f"Expected {name}(out_channels) to return a torch module, got {type(built).__name__}."
        )
    if parts.spec.encoder_weights != "random":
        raise UsageError(
            f"Expected network.encoder_weights random for {name}, which loads its own if any, got "
            f"{parts.spec.encoder_weights!r}."
        )
    return OwnNetwork(name, built, parts)


class OwnNetwork(MultiTaskNetwork):
    """Holds `module`, which gives a prediction of each task for (batch, 3, height, width) images.

    Which parameters are shared is seen by which predictions depend on them.
    """

    def __init__(self, name: str, module: nn.Module, parts: Parts) -> None:
        super().__init__()
        self.module = module
        self._name, self._tasks = name, tuple(parts.out_channels)
        self._image_size = parts.image_size or (64, 64)

    def _padded_predictions(self, images: Tensor) -> dict[str, Tensor]:
        found: Any = self.module(images)
        if not isinstance(found, Mapping) or not set(self._tasks) <= set(found):
            has = sorted(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
            raise UsageError(
                f"Expected predictions of {list(self._tasks)} as a dict from {self._name}, got "
                f"{has}."
            )
        return {task: found[task] for task in self._tasks}

    @functools.cached_property
    def _users(self) -> list[tuple[nn.Parameter, list[str]]]:
        """Return each parameter with the tasks whose predictions depend on it."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        images = parameters[0].new_zeros(2, 3, *self._image_size) if parameters else None
        users: list[list[str]] = [[] for _ in parameters]
        if images is not None:
            with kept_statistics(self), global_stream(0, "users"), torch.enable_grad():
                for task, prediction in self._padded_predictions(images).items():
                    if not prediction.requires_grad:
                        continue
                    found = torch.autograd.grad(
                        prediction.sum(), parameters, allow_unused=True, retain_graph=True
                    )
                    for of_parameter, gradient in zip(users, found, strict=True):
                        of_parameter += [] if gradient is None else [task]
        return list(zip(parameters, users, strict=True))

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters on which the predictions of several tasks depend."""
        return [parameter for parameter, tasks in self._users if len(tasks) > 1]

    def task_parameters(self) -> list[list[nn.Parameter]]:
        """Return, for each task, the parameters on which its prediction alone depends."""
        return [[p for p, tasks in self._users if tasks == [task]] for task in self._tasks]

    def last_shared_parameters(self) -> list[nn.Parameter]:
        """Return what the module says.

        Raises:
            UsageError: if it does not; nobody else can tell which of its layers comes last.
        """
        of_module = getattr(self.module, "last_shared_parameters", None)
        if of_module is None:
            raise UsageError(
                f"Expected a method last_shared_parameters() of {self._name} for a weighting that "
                "compares gradients at the last shared layer, got none. Add one that returns a "
                "list of parameters, or choose another method."
            )
        return list(of_module())
