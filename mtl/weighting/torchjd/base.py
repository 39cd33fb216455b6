"""What the two adapters of the library TorchJD have in common (its release 0.18; MIT licence).

TorchJD is an optional extra and imported when a method of it is built.
"""

import contextlib
import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mtl.errors import UsageError
from mtl.spec.code import TORCHJD
from mtl.spec.methods import OptionValue
from mtl.streams import global_stream
from mtl.weighting.base import Weighting, keeping_dtypes

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


class TorchJD(Weighting):
    """Holds an object of TorchJD, its random stream and what it remembers.

    The object's numbers are float64 where it holds any. Its random draws come from a stream of
    (seed, number of the call), so a resumed run draws what the whole one does.

    Args:
        name: of TorchJD's class.
        seed: of the draws.
        options: all of the method's options that the class takes.

    Raises:
        ValueError: if the library or one that it needs is not installed, for options or a number
            of tasks that the class refuses.
    """

    library_module: ClassVar[str]
    library: Any
    """The object, of a class that is there only where TorchJD is installed."""

    def __init__(
        self, name: str, tasks: Sequence[str], seed: int, options: Mapping[str, OptionValue]
    ) -> None:
        super().__init__(tasks)
        self.method = TORCHJD + name
        self.seed = seed
        self.num_calls = 0
        # Not registered as a submodule: its own state_dict cannot be loaded into a fresh object.
        object.__setattr__(self, "library", self._built(name, options))

    def _built(self, name: str, options: Mapping[str, OptionValue]) -> nn.Module:
        num_tasks = len(self.tasks)
        by_task: dict[str, Any] = {
            "weights": torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64),
            "shape": num_tasks,
            "n_tasks": num_tasks,
        }
        with self._failures_as_sentences():
            build = getattr(importlib.import_module(self.library_module), name, None)
            if build is None:
                raise ImportError(f"no {name} in {self.library_module}")
            required = {
                key: by_task[key]
                for key, parameter in inspect.signature(build).parameters.items()
                if key in by_task and parameter.default is parameter.empty
            }
            built = build(**required, **options)
        # Tensors that the class keeps as plain attributes do not follow it to a device.
        for key, value in list(vars(built).items()):
            if isinstance(value, Tensor):
                delattr(built, key)
                built.register_buffer(key, value)
        return built.double()

    def _refusal(self, error: Exception) -> str:
        return (
            f"Method {self.method!r} refuses its options, the tasks {list(self.tasks)} or their "
            f"gradients ({_first_line(error)})"
        )

    @contextlib.contextmanager
    def _library_call(self) -> Iterator[None]:
        """Draw from this call's stream; turn the library's failures into one sentence."""
        with self._failures_as_sentences(), global_stream(self.seed, "torchjd", self.num_calls):
            yield

    @contextlib.contextmanager
    def _failures_as_sentences(self) -> Iterator[None]:
        # Solvers warn of how they are called, of which our user can change nothing.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            except torch.OutOfMemoryError:
                raise
            except ImportError as error:
                raise UsageError(
                    f"Expected TorchJD 0.18 and what it needs for method {self.method!r}, got "
                    f"{_first_line(error)!r}: pip install 'loss-scale-balancing[torchjd]'."
                ) from error
            except Exception as error:
                raise UsageError(self._refusal(error)) from error

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TorchJD":
        super()._apply(fn, recurse)
        self.library._apply(keeping_dtypes(fn), recurse)
        return self

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"method": self.method}

    def get_extra_state(self) -> dict[str, Any]:
        """Return also the number of calls and what the library's object remembers."""
        own = {"num_calls": self.num_calls, "library": library_state(self.library)}
        return {**super().get_extra_state(), **own}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `get_extra_state` returned."""
        super().set_extra_state(state)
        self.num_calls = state["num_calls"]
        load_library_state(self.library, state["library"], self.period_sums.device)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
