"""Networks: images in, one prediction a task out. A new architecture is a file and an entry."""

from mtl.names import checked_name
from mtl.networks.full_sharing import FullSharing
from mtl.spec import NetworkSpec

ARCHITECTURES: dict[str, type[FullSharing]] = {"full_sharing": FullSharing}

__all__ = ["ARCHITECTURES", "build_network"]


def build_network(spec: NetworkSpec, out_channels: dict[str, int], seed: int) -> FullSharing:
    """Build the network of `spec` for tasks with `out_channels`, initialised by `seed`.

    Raises:
        ValueError: for an unknown architecture or encoder, or a stride the encoder does not have.
    """
    checked_name(spec.architecture, ARCHITECTURES, "architecture")
    return ARCHITECTURES[spec.architecture](
        out_channels,
        encoder=spec.encoder,
        encoder_stride=spec.encoder_stride,
        decoder_widths=spec.decoder_widths,
        seed=seed,
    )
