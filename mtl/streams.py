"""Random streams: each component draws from its own, a function of (seed, names) alone.

Adding a task or a method therefore moves no other component's stream, and a resumed run needs no
saved generator: the stream of an epoch is a function of the epoch.
"""

import contextlib
import hashlib
from collections.abc import Iterator

import numpy as np
import torch


def stream_seed(seed: int, *names: str | int) -> int:
    """Return a seed in [0, 2^63) for the component `names` of a run with `seed`."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_stream(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU generator for the component `names`."""
    return torch.Generator().manual_seed(stream_seed(seed, *names))


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return a numpy generator for the component `names`."""
    return np.random.default_rng(stream_seed(seed, *names))


@contextlib.contextmanager
def global_stream(seed: int, *names: str | int) -> Iterator[None]:
    """Let code that knows only torch's global generators draw from the component's stream.

    Those are the CPU's and, once a GPU is in use, the current GPU's; no other GPU is touched.
    """
    on_gpu = torch.cuda.is_initialized()
    with torch.random.fork_rng([torch.cuda.current_device()] if on_gpu else []):
        seed_generators(stream_seed(seed, *names))
        yield


def seed_generators(seed: int) -> None:
    """Seed torch's global generators of the CPU and, once a GPU is in use, of the current GPU.

    `torch.manual_seed` takes a thousand times as long: it notes for each kind of device that may
    come yet from where it was called.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def without_waiting(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return what was drawn on the CPU on `device`; the host does not wait for a GPU's queue."""
    if device.type == "cpu":
        return values
    return values.pin_memory().to(device, non_blocking=True)
