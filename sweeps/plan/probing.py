"""What the networks of a plan are like, measured on this machine: `--plan --probe`."""

from collections.abc import Iterable

from mtl.data.prepared import info_of
from mtl.spec import RunSpec
from mtl.training.probe import ProbeResult, probe
from sweeps.plan.cost import StepKey, step_key
from sweeps.text import size

MIN_SECONDS = 3.0
"""Of timed steps: the median of a few is off by as much as a tenth."""


def probe_networks(
    specs: Iterable[RunSpec], data_root: str | None
) -> tuple[dict[StepKey, float], tuple[str, ...]]:
    """Build and time each distinct network once.

    Args:
        specs: the runs of a plan.
        data_root: folder of prepared data, from which the number of classes is read.

    Returns:
        Seconds of a step as `sweeps.plan.cost.estimate` takes them, and a text on each network.
    """
    firsts: dict[StepKey, RunSpec] = {}
    for spec in specs:
        firsts.setdefault(step_key(spec), spec)
    measured = {
        key: probe(spec, info_of(spec.data, data_root), min_seconds=MIN_SECONDS)
        for key, spec in firsts.items()
    }
    seconds = {key: result.seconds_per_step for key, result in measured.items()}
    return seconds, tuple(_text(firsts[key], result) for key, result in measured.items())


def _text(spec: RunSpec, result: ProbeResult) -> str:
    network, data = spec.network, spec.data
    parts = f" in {spec.micro_batches} parts" if spec.micro_batches > 1 else ""
    return (
        f"{network.architecture}, {network.encoder} at stride {network.encoder_stride}, "
        f"{' '.join(spec.tasks)}, batch {spec.batch_size}{parts} of {data.height}x{data.width}:\n"
        f"  {result.num_parameters / 1e6:,.2f} M parameters, "
        f"{size(result.parameter_bytes)} with gradients and AdamW's moments\n"
        f"  {result.forward_flops / 1e9:,.3f} GFLOP forward an image (a multiply-add counts 2)\n"
        f"  {size(result.activation_bytes)} of activations kept for the backward pass\n"
        f"  {result.seconds_per_step * 1e3:,.1f} ms a step with equal weights on {result.device}, "
        "one thread"
    )
