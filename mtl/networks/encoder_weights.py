"""Where encoders start: random parameters, ImageNet's through timm, or a file's."""

import contextlib
import os
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import timm
import torch
from timm.models import load_state_dict
from torch import Tensor, nn

from mtl.errors import UsageError
from mtl.spec.code import is_reference, load_object
from mtl.spec.encoders import weights_file_id
from mtl.spec.sections import NetworkSpec

CONNECT_SECONDS = 5.0
"""How long to wait for the server that holds timm's weights."""
MAX_NAMED = 3
"""More differences than this are counted in a message, not named."""


@dataclass(frozen=True)
class EncoderWeights:
    """The state dict of a timm model, for encoders to start from."""

    encoder: str
    source: str
    """Where the weights come from, for messages."""
    tensors: dict[str, Tensor]
    known: frozenset[str]
    """Names that the whole model has, with its classifier and what is behind the feature map."""

    def load_into(self, model: nn.Module) -> None:
        """Set the parameters and buffers of `model`, which may lack some of the whole model's.

        Raises:
            ValueError: if the weights are those of another model, or not finite.
        """
        wanted = model.state_dict()
        # Counters that batch norm does not use; older files are without.
        required = [key for key in wanted if not key.endswith("num_batches_tracked")]
        faults = [f"{key} is missing" for key in required if key not in self.tensors]
        faults += [
            f"{key} is {tuple(self.tensors[key].shape)} in place of {tuple(wanted[key].shape)}"
            for key in required
            if key in self.tensors and self.tensors[key].shape != wanted[key].shape
        ]
        faults += [f"{key} is unexpected" for key in self.tensors if key not in self.known]
        if faults:
            more = f" and {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
            raise UsageError(
                f"Expected a state dict of timm's {self.encoder} in {self.source}, got one of "
                f"another model: {', '.join(faults[:MAX_NAMED])}{more}. {_remedy(self.encoder)}"
            )
        damaged = [key for key in required if not self.tensors[key].isfinite().all()]
        if damaged:
            raise UsageError(
                f"Expected finite weights in {self.source}, got NaN or infinity in {damaged[0]}. "
                f"{_remedy(self.encoder)}"
            )
        found = {key: self.tensors[key] for key in wanted if key in self.tensors}
        model.load_state_dict(found, strict=False)


def timm_name(encoder: str) -> str:
    """Return what timm calls an encoder; the module of `module:name` is imported to register it.

    Raises:
        ValueError: if it cannot be loaded, or does not register such a model.
    """
    if not is_reference(encoder):
        return encoder
    load_object(encoder, "encoder")
    name = encoder.partition(":")[2]
    if not timm.is_model(name):
        raise UsageError(
            f"Expected a model registered with timm at {encoder!r}, got another object. Put "
            "@register_model (from timm.models) before the function."
        )
    return name


def first_weights(spec: NetworkSpec, file: str | None) -> EncoderWeights | None:
    """Return the weights that `spec.encoder_weights` names, None for random ones.

    Raises:
        ValueError: if they cannot be had: a failed download, no file, another or a damaged one.
    """
    if spec.encoder_weights == "random":
        return None
    if spec.encoder_weights == "imagenet":
        return _imagenet_weights(timm_name(spec.encoder))
    if file is None:
        raise UsageError(
            f"Expected a file with the encoder weights {spec.encoder_weights}, got none. "
            "Give it with --encoder-weights FILE."
        )
    found = weights_file_id(file)
    if found != spec.encoder_weights:
        raise UsageError(
            f"Expected encoder weights {spec.encoder_weights}, got {file}, which is {found}. "
            "Give the file that the run was planned with, or plan it again with this one."
        )
    return _weights_of_file(timm_name(spec.encoder), file)


def _imagenet_weights(encoder: str) -> EncoderWeights:
    try:
        with torch.random.fork_rng(), _offline_if_unreachable():
            tensors = timm.create_model(encoder, pretrained=True).state_dict()
    # Whatever the reason, from a missing network to a model without weights, the remedy is one.
    except Exception as error:
        raise UsageError(
            f"Expected ImageNet weights of {encoder} from timm's download, which failed "
            f"({type(error).__name__}): give a file with --encoder-weights FILE that holds a "
            f"state dict of timm's model {encoder}, as .pth, .pt or .safetensors, such as "
            f"{_saving(encoder)} writes on a machine with a network."
        ) from error
    return EncoderWeights(encoder, "timm's download", tensors, frozenset(tensors))


def _weights_of_file(encoder: str, file: str) -> EncoderWeights:
    try:
        tensors = load_state_dict(file, weights_only=True)
    # Damaged files fail in many ways: no zip, a torn pickle, a bad safetensors header.
    except Exception as error:
        raise UsageError(
            f"Expected a state dict in {file}, got one that cannot be read "
            f"({type(error).__name__}). {_remedy(encoder)}"
        ) from error
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UsageError(
            f"Expected a state dict in {file}, got other values than tensors. {_remedy(encoder)}"
        )
    with torch.random.fork_rng():
        known = frozenset(timm.create_model(encoder).state_dict())
    return EncoderWeights(encoder, file, tensors, known)


def _saving(encoder: str) -> str:
    return f"torch.save(timm.create_model('{encoder}', pretrained=True).state_dict(), FILE)"


def _remedy(encoder: str) -> str:
    return f"{_saving(encoder)} writes one."


@contextlib.contextmanager
def _offline_if_unreachable() -> Iterator[None]:
    """Have timm look into its cache at once where there is no network.

    Its client would ask twelve times over 46 seconds first. The client (huggingface_hub, which
    timm brings) reads its switch from the environment when it is imported, so here it is too late
    for that and the switch itself is set.
    """
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is None or _is_reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        yield
        return
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before  # type: ignore[attr-defined]


def _is_reachable(url: str) -> bool:
    """Return whether the server of `url` takes connections; with a proxy that cannot be seen."""
    if urllib.request.getproxies():
        return True
    parts = urllib.parse.urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), CONNECT_SECONDS):
            return True
    except OSError:
        return False
