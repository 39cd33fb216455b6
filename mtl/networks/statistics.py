"""Batch norm's running statistics during a further forward pass on the same batch."""

import contextlib
from collections.abc import Iterator

from torch import nn


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
