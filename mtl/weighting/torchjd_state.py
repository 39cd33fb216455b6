"""What a TorchJD object remembers, as plain values and tensors that a checkpoint can hold.

Its own `state_dict` forgets some of it: lists of past means, numpy arrays, an optimizer made at
the first update, counters, buffers that are None until the first call.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Encoded = tuple[str, Any]
_PLAIN = frozenset(vars(nn.Module()))


def library_state(library: nn.Module) -> dict[str, dict[str, Encoded]]:
    """Return module name -> attribute -> encoded value; `torch.load(weights_only=True)` takes it.

    What is no value (functions, solver problems) is left out.
    """
    return {
        name: {
            key: encoded
            for key, value in {
                **vars(module),
                **module._parameters,
                **module._buffers,
            }.items()
            if key not in _PLAIN and (encoded := _encode(value)) is not None
        }
        for name, module in library.named_modules()
    }


def load_library_state(
    library: nn.Module, state: dict[str, dict[str, Encoded]], device: torch.device
) -> None:
    """Bring a freshly built `library` into `state`; tensors go to `device`."""
    for name, module in library.named_modules():
        for key, encoded in state[name].items():
            parameter = module._parameters.get(key)
            if parameter is not None:
                with torch.no_grad():
                    parameter.copy_(encoded[1])
            else:
                setattr(module, key, _decode(encoded, module, device))
        # NashMTL builds its solver's problem in its first call and in no later one.
        if hasattr(module, "_init_optim_problem") and module.step > 0:
            module._init_optim_problem()


def _encode(value: Any) -> Encoded | None:
    """Return (kind, plain value); None for what has no such form."""
    if isinstance(value, Tensor):
        return "tensor", value.detach().clone()
    if isinstance(value, np.ndarray):
        return "array", torch.from_numpy(value.copy())
    if isinstance(value, torch.optim.Adam):
        return "adam", value.state_dict()
    if isinstance(value, torch.dtype):
        return "dtype", str(value).removeprefix("torch.")
    if isinstance(value, torch.device):
        return "device", None
    if value is None or isinstance(value, bool | int | str):
        return "plain", value
    if isinstance(value, float):  # a numpy float is one and would not load
        return "plain", float(value)
    if isinstance(value, list | tuple):
        parts = [_encode(part) for part in value]
        if None not in parts:
            return type(value).__name__, parts
    return None


def _decode(encoded: Encoded, module: nn.Module, device: torch.device) -> Any:
    kind, value = encoded
    return _DECODERS[kind](value, module, device)


def _adam(value: Any, module: nn.Module, device: torch.device) -> torch.optim.Adam:
    del device  # the optimizer puts its state where the parameters are
    adam = torch.optim.Adam(module.parameters(recurse=False))
    adam.load_state_dict(value)
    return adam


_DECODERS = {
    "tensor": lambda value, module, device: value.to(device, copy=True),
    "array": lambda value, module, device: value.cpu().numpy().copy(),
    "adam": _adam,
    "dtype": lambda value, module, device: getattr(torch, value),
    # Where the state was saved does not matter: the tensors are on this device now.
    "device": lambda value, module, device: device,
    "plain": lambda value, module, device: value,
    "list": lambda value, module, device: [_decode(part, module, device) for part in value],
    "tuple": lambda value, module, device: tuple(_decode(part, module, device) for part in value),
}
