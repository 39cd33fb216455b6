"""Small networks of every architecture."""

import pytest

from mtl.networks import build_network
from mtl.networks.base import MultiTaskNetwork
from mtl.spec.sections import ARCHITECTURES, NetworkSpec

TASKS = {"depth": 1, "normal": 3, "segmentation": 13}
SMALL = (8, 8, 8, 8, 8, 8)
every_architecture = pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))


def network(
    architecture: str = "full_sharing",
    tasks: dict[str, int] = TASKS,
    *,
    encoder: str = "test_efficientnet",
    stride: int = 8,
    widths: tuple[int, ...] = SMALL,
    seed: int = 0,
    weights_file: str | None = None,
    **more: object,
) -> MultiTaskNetwork:
    """Build a network; `more` are further fields of `NetworkSpec`."""
    spec = NetworkSpec(
        architecture=architecture,
        encoder=encoder,
        encoder_stride=stride,
        decoder_widths=widths,
        **more,  # type: ignore[arg-type]
    )
    return build_network(spec, tasks, seed, weights_file)
