"""What the adapters of the library TorchJD have in common (its release 0.18; MIT licence).

TorchJD is an optional extra and imported when a method of it is built.
"""

import contextlib
import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl.methods import TORCHJD, OptionValue
from mtl.streams import global_stream
from mtl.weighting.base import Weighting
from mtl.weighting.torchjd_state import library_state, load_library_state


class TorchJD(Weighting):
    """Holds an object of TorchJD, its random stream and what it remembers.

    The object's numbers are float64 where it holds any. Its random draws come from a stream of
    (seed, number of the call), so a resumed run draws what the whole one does.

    Args:
        name: of TorchJD's class.
        tasks: distinct names.
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
        with self._failures_told():
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
        self.num_calls += 1
        with self._failures_told(), global_stream(self.seed, "torchjd", self.num_calls):
            yield

    @contextlib.contextmanager
    def _failures_told(self) -> Iterator[None]:
        # Solvers warn of how they are called, of which our user can change nothing.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            except torch.OutOfMemoryError:
                raise
            except ImportError as error:
                raise ValueError(
                    f"Expected TorchJD 0.18 and what it needs for method {self.method!r}, got "
                    f"{_first_line(error)!r}: pip install 'loss-scale-balancing[torchjd]'."
                ) from error
            except Exception as error:
                raise ValueError(self._refusal(error)) from error

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TorchJD":
        super()._apply(fn, recurse)
        self.library._apply(fn, recurse)
        return self

    def get_extra_state(self) -> dict[str, Any]:
        """Return the number of calls and what the library's object remembers."""
        return {"num_calls": self.num_calls, "library": library_state(self.library)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `get_extra_state` returned."""
        self.num_calls = state["num_calls"]
        load_library_state(self.library, state["library"], self.period_sums.device)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
