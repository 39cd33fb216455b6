"""Each network of a plan, built and trained for some steps in a process like a run's: its cost."""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from mtl.data.prepared import info_of
from mtl.data.sample import DataInfo
from mtl.spec import RunSpec
from mtl.training.probe import ProbeResult, probe
from sweeps.launch.worker import pack_rates  # also what a run's process holds beside its training
from sweeps.plan.cost import StepKey, step_key
from sweeps.plan.packs import rates_text
from sweeps.text import size

Returned = TypeVar("Returned")
MIN_SECONDS = 3.0
"""Of timed steps: the median of a few is off by as much as a tenth."""


def probe_networks(
    specs: Iterable[RunSpec],
    data_root: str | None,
    slots: int = 1,
    *,
    packs: bool = False,
    cuda_graphs: bool = False,
) -> tuple[dict[StepKey, float], tuple[str, ...]]:
    """Build and time each distinct network once, in a process of its own.

    Args:
        specs: the runs of a plan.
        data_root: folder of prepared data, from which the number of classes is read.
        slots: runs side by side, for whose memory together is told.
        packs: whether to measure also how fast several train together.
        cuda_graphs: how those do.

    Returns:
        Seconds of a step as `sweeps.plan.cost.estimate` takes them, and a text on each network.
    """
    firsts: dict[StepKey, RunSpec] = {}
    for spec in specs:
        firsts.setdefault(step_key(spec), spec)
    measured = {
        key: probe_alone(spec, info_of(spec.data, data_root)) for key, spec in firsts.items()
    }
    seconds = {key: result.seconds_per_step for key, result in measured.items()}
    texts = {key: _text(firsts[key], result, slots) for key, result in measured.items()}
    if packs:
        for key, spec in firsts.items():
            rates = _alone(pack_rates, spec, data_root, cuda_graphs)
            texts[key] += f"\n  packed: {rates_text(rates)}"
    return seconds, tuple(texts.values())


def probe_alone(spec: RunSpec, info: DataInfo) -> ProbeResult:
    """Return what a new process, which imports what a run's does, measures.

    Raises:
        ValueError: if the network cannot be built.
    """
    return _alone(probe, spec, info, min_seconds=MIN_SECONDS)


def _alone(function: Callable[..., Returned], *arguments: Any, **options: Any) -> Returned:
    """Return what a function returns in a process of its own, which imports what a run's does."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **options).result()


def _text(spec: RunSpec, result: ProbeResult, slots: int) -> str:
    network, data = spec.network, spec.data
    parts = f" in {spec.micro_batches} parts" if spec.micro_batches > 1 else ""
    return (
        f"{network.architecture}, {network.encoder} at stride {network.encoder_stride}, "
        f"{' '.join(spec.tasks)}, batch {spec.batch_size}{parts} of {data.height}x{data.width}:\n"
        f"  {result.num_parameters / 1e6:,.2f} M parameters, "
        f"{size(result.parameter_bytes)} with gradients and AdamW's moments\n"
        f"  {result.forward_flops / 1e9:,.3f} GFLOP forward an image (a multiply-add counts 2)\n"
        f"  {size(result.activation_bytes)} of activations kept for the backward pass\n"
        f"{_memory_text(result, slots)}"
        f"  {result.seconds_per_step * 1e3:,.1f} ms a step with equal weights on {result.device}, "
        "one thread"
    )


def _memory_text(result: ProbeResult, slots: int) -> str:
    """Return a line for each kind of memory whose peak was measured."""
    peaks = {"": result.peak_memory_bytes, " of the GPU": result.peak_device_bytes}
    return "".join(
        f"  {size(peak)} of memory{where} at a run's peak"
        f"{f', {size(slots * peak)} with {slots} at a time' if slots > 1 else ''}\n"
        for where, peak in peaks.items()
        if peak is not None
    )
