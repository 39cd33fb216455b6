"""A guard that runs on the CPU: what would make a host wait for its GPU, or copy to it, fails."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
WAITING_OPERATIONS = {
    aten._local_scalar_dense.default,  # item(), and a tensor as a condition
    aten.nonzero.default,
    aten.masked_select.default,
    aten.bincount.default,
    aten.equal.default,
    aten.unique_dim.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
    aten.lift_fresh.default,  # torch.tensor(...): values of the host
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
TO_THE_HOST = {"tolist", "numpy", "item", "cpu", "cuda", "from_numpy", "__array__"}


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masks = func in INDEXING and any(i is not None and i.dtype == torch.bool for i in args[1])
        if func in WAITING_OPERATIONS or masks:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in TO_THE_HOST:
            raise AssertionError(f"{func.__name__} waits for the device")
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Fail on whatever a GPU's host would wait for, in forward and backward passes."""
    with _Methods(), _Operations():
        yield
