"""Ratios of one training step: methods, evaluation, and LibMTL (optional) on the same job.

Processor time of one thread, in turns, so that a busy machine moves ratios less than seconds.
LibMTL 1.1.5 (MIT licence) is no dependency of the project: `pip install --no-deps LibMTL` to
compare. Its trainer wants a GPU, so its own model, weightings and loss bookkeeping are called in
the order of its loop, with AdamW of torch and a DataLoader over tensors in memory.
"""

import importlib
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from mtl.networks.multi_decoder import MultiDecoder
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.training.fit import Run
from sweeps.plan.defaults import DEFAULT_FIELDS
from sweeps.plan.fields import nested

NUM_TURNS = 5
NUM_IMAGES = 96
RIVALS = {
    "EW": "equal", "UW": "uncertainty", "DWA": "dwa", "GLS": "gls", "GradNorm": "gradnorm",
    "PCGrad": "torchjd:PCGrad",
}  # fmt: skip
"""LibMTL's name -> ours."""
ARGUMENTS: dict[str, dict[str, float]] = {"DWA": {"T": 2.0}, "GradNorm": {"alpha": 1.5}}


def a_run(folder: str, method: str, **changes: Any) -> Run:
    """Return a run of the default job, its data prepared."""
    fields = {k: v for k, v in DEFAULT_FIELDS.items() if not k.startswith("method_options")}
    spec = RunSpec.from_dict({**nested({**fields, **changes}), "method": method})
    runtime = Runtime(device="cpu", num_threads=1, data_root=folder)
    return Run(spec, Store(f"{folder}/store"), runtime)


def processor_seconds(action: Callable[[], object]) -> float:
    """Return what `action` takes of the processor."""
    start = time.process_time()
    action()
    return time.process_time() - start


def in_turns(actions: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return the seconds of each action in each turn, after one that does not count."""
    for action in actions.values():
        action()
    turns = [{k: processor_seconds(f) for k, f in actions.items()} for _ in range(NUM_TURNS)]
    return {name: [turn[name] for turn in turns] for name in actions}


def print_ratio(name: str, above: list[float], below: list[float]) -> None:
    """Print the median ratio with its range."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    low, high = min(ratios), max(ratios)
    print(f"{name:<52} {statistics.median(ratios):.3f}  ({low:.3f} .. {high:.3f})")


def measure() -> None:
    """Print the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {method: a_run(folder, method) for method in ("lsb", "fixed")}
        found = in_turns({name: lambda r=r: r.train_steps(1) for name, r in runs.items()})
        print_ratio("lsb / fixed, 50 steps of the default job", found["lsb"], found["fixed"])
        run = runs["lsb"]
        found = in_turns(
            {"train": lambda: run.train_steps(1), "evaluate": lambda: run._evaluate("validation")}
        )
        whole = [a + b for a, b in zip(*found.values(), strict=True)]
        print_ratio("evaluation / epoch, default job", found["evaluate"], whole)
        # Its encoders want a module that torchvision has no more, for a function not called here.
        gone = types.ModuleType("torchvision.models.utils")
        gone.load_state_dict_from_url = None  # type: ignore[attr-defined]
        sys.modules.setdefault(gone.__name__, gone)
        try:
            weightings = importlib.import_module("LibMTL.weighting")
            hps = importlib.import_module("LibMTL.architecture").HPS
        except ImportError as error:
            print(f"LibMTL is not installed ({error}): no comparison with it.")
            return
        for rival, method in RIVALS.items():
            ours = a_run(
                folder, method,
                **{"network.architecture": "multi_decoder", "data.num_train": NUM_IMAGES},
            )  # fmt: skip
            layout = torch.channels_last
            try:
                theirs = libmtl_epoch(ours, hps, getattr(weightings, rival), rival, layout)
                theirs()
            except RuntimeError:  # its gradients are viewed as vectors, in this layout only
                layout = torch.contiguous_format
                theirs = libmtl_epoch(ours, hps, getattr(weightings, rival), rival, layout)
            found = in_turns({"ours": lambda r=ours: r.train_steps(1), "theirs": theirs})
            name = f"step, ours {method} / LibMTL {rival}, {str(layout).removeprefix('torch.')}"
            print_ratio(name, found["ours"], found["theirs"])


class _Decoder(nn.Module):
    """Our decoder of one task, which returns a tensor."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, features: Tensor) -> Tensor:
        (prediction,) = self.decoder(features).values()
        return prediction


def libmtl_epoch(
    run: Run, architecture: Any, weighting: Any, name: str, layout: torch.memory_format
) -> Callable[[], None]:
    """Return an epoch of LibMTL's loop with the network and the losses of `run`."""
    spec, network = run.spec, run.network
    assert isinstance(network, MultiDecoder)
    decoders = nn.ModuleDict({t: _Decoder(d) for t, d in network.decoders.items()})

    class Model(architecture, weighting):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(
                list(spec.tasks), lambda: network.encoder, decoders, False, False,
                torch.device("cpu"),
            )  # fmt: skip
            self.init_param()

        def zero_grad_share_params(self) -> None:
            # What zero_grad() meant when LibMTL was written: it writes to the gradients after it.
            self.encoder.zero_grad(set_to_none=False)

    model = Model().to(memory_format=layout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.optimizer.learning_rate)
    model.epoch = 2  # past the epochs in which some methods only look on
    model.train_loss_buffer = np.ones([len(spec.tasks), 3])
    everything = run.splits["train"].batch(np.arange(NUM_IMAGES), torch.device("cpu"))
    samples = [
        (
            everything.images[i].contiguous(),
            {task: (everything.targets[task][i], everything.valid[task][i]) for task in spec.tasks},
        )
        for i in range(NUM_IMAGES)
    ]
    loader: Any = DataLoader(samples, spec.batch_size, shuffle=True)  # type: ignore[arg-type]
    losses = {"depth": _depth_loss, "segmentation": _segmentation_loss}

    def epoch() -> None:
        model.train()
        for images, labels in _in_layout(loader, layout):
            predictions = model(images)
            values = torch.zeros(len(spec.tasks))
            for i, task in enumerate(spec.tasks):
                values[i] = losses[task](predictions[task], *labels[task])
                values[i].item()  # its meters keep a history
            optimizer.zero_grad()
            model.backward(values, **ARGUMENTS.get(name, {}))
            optimizer.step()

    return epoch


def _in_layout(loader: Any, layout: torch.memory_format) -> Iterator[tuple[Tensor, Any]]:
    for images, labels in loader:
        yield images.contiguous(memory_format=layout), labels


def _depth_loss(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Equations (2) to (4) of the supplement as its reader would write them."""
    mask = valid[:, None]
    error = (prediction.clamp(min=0.005).log() - target.clamp(min=0.005).log()).abs()
    outside = (0.5 - prediction).relu() + (prediction - 10).relu()
    return ((error + outside) * mask).sum() / mask.sum()


def _segmentation_loss(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Equations (7) and (8)."""
    entropy = functional.cross_entropy(prediction, target, reduction="none")
    excess = (prediction.abs().clamp(min=10) - 10).sum(dim=1)
    return ((entropy + excess) * valid).sum() / valid.sum()
