"""What is tried before data are prepared and Ray starts, because it would fail every run."""

from collections.abc import Iterable

from mtl.spec import RunSpec


class PreflightError(Exception):
    """Something that every run needs and that cannot be had, in one sentence for the user."""


def check_encoder_weights(specs: Iterable[RunSpec], weights_file: str | None) -> None:
    """Build each network that does not start from random weights, downloads included.

    Args:
        specs: the runs to train.
        weights_file: where weights named by a hash lie.

    Raises:
        PreflightError: if the weights cannot be had or belong to another encoder.
    """
    networks = dict.fromkeys(
        spec.network for spec in specs if spec.network.encoder_weights != "random"
    )
    if not networks:
        return
    # Only here: torch takes seconds to import, and most sweeps start at random.
    from mtl.networks import build_network

    for network in networks:
        try:
            build_network(network, {"depth": 1}, 0, weights_file)
        except ValueError as error:
            raise PreflightError(str(error)) from error
