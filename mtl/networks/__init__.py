"""Networks: images in, one prediction a task out.

An architecture of one's own is named `module:Name`, see docs/extending.md. One of this project is a
file and an entry in `mtl.spec.sections.ARCHITECTURES`.
"""

import importlib

from mtl.networks.base import MultiTaskNetwork, Parts
from mtl.networks.encoder_weights import first_weights
from mtl.networks.own import build_own
from mtl.networks.smp import build_smp
from mtl.spec.code import SMP, is_reference
from mtl.spec.sections import ARCHITECTURES, NetworkSpec

__all__ = ["MultiTaskNetwork", "Parts", "build_network"]


def build_network(
    spec: NetworkSpec,
    out_channels: dict[str, int],
    seed: int,
    encoder_weights_file: str | None = None,
    *,
    image_size: tuple[int, int] | None = None,
) -> MultiTaskNetwork:
    """Build the network of `spec` for tasks with `out_channels`, initialised by `seed`.

    Args:
        spec: the network.
        out_channels: task -> channels of its prediction, in the order of the tasks.
        seed: of the initial parameters. Torch's global random stream does not move.
        encoder_weights_file: the file that `spec.encoder_weights` names by its hash.
        image_size: height and width of the images, for which the encoder is tried, padded
            further or made for that size if need be; None takes what fits most sizes.

    Raises:
        ValueError: for an encoder that gives no feature map of the stride for such images, or
            encoder weights that cannot be had, or a network from outside that cannot be built.
    """
    weights = first_weights(spec, encoder_weights_file)
    names = {task.replace(".", "/"): task for task in out_channels}
    inner = {name: out_channels[task] for name, task in names.items()}
    parts = Parts(spec, inner, seed, weights, image_size)
    if is_reference(spec.architecture):
        network = build_own(spec.architecture, parts)
        network.task_names = names
        return network
    if spec.architecture.startswith(SMP):
        network = build_smp(spec.architecture.removeprefix(SMP), parts)
        network.task_names = names
        return network
    module, _, name = ARCHITECTURES[spec.architecture].partition(":")
    architecture: type[MultiTaskNetwork] = getattr(importlib.import_module(module), name)
    network = architecture(parts)
    network.task_names = names
    return network
