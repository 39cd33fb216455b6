"""Networks: images in, one prediction a task out. A new architecture is a file and an entry."""

from collections.abc import Callable

from mtl.networks.base import MultiTaskNetwork, Parts, kept_statistics
from mtl.networks.encoder_weights import first_weights
from mtl.networks.full_sharing import FullSharing
from mtl.networks.mtan import Mtan
from mtl.networks.multi_column import MultiColumn
from mtl.networks.multi_decoder import MultiDecoder
from mtl.networks.single_task import SingleTask
from mtl.spec.sections import NetworkSpec
from mtl.spec.strict import checked_name

ARCHITECTURES: dict[str, Callable[[Parts], MultiTaskNetwork]] = {
    "single_task": SingleTask,
    "full_sharing": FullSharing,
    "multi_decoder": MultiDecoder,
    "multi_column": MultiColumn,
    "mtan": Mtan,
}

__all__ = ["ARCHITECTURES", "MultiTaskNetwork", "build_network", "kept_statistics"]


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
        ValueError: for an unknown architecture or encoder, one that gives no feature map of the
            stride for such images, or encoder weights that cannot be had.
    """
    checked_name(spec.architecture, ARCHITECTURES, "architecture")
    weights = first_weights(spec, encoder_weights_file)
    return ARCHITECTURES[spec.architecture](Parts(spec, out_channels, seed, weights, image_size))
