"""What the networks of a plan are like, measured on this machine: `--plan --probe`."""

from collections.abc import Iterable

from mtl.data.prepared import info_of
from mtl.spec import RunSpec
from mtl.training.probe import ProbeResult, probe
from sweeps.plan.cost import StepKey, step_key
from sweeps.text import size

Probed = tuple[RunSpec, ProbeResult]

MIN_SECONDS = 3.0
"""Of timed steps: the median of a few is off by as much as a tenth."""


def distinct_networks(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Return the first spec of each kind of step: tasks, network, batch and image size."""
    firsts: dict[StepKey, RunSpec] = {}
    for spec in specs:
        firsts.setdefault(step_key(spec), spec)
    return list(firsts.values())


def probe_networks(specs: Iterable[RunSpec], data_root: str | None) -> list[Probed]:
    """Build and time each distinct network; return the first spec of each with what was measured.

    Args:
        specs: the runs of a plan.
        data_root: folder of prepared data, which tell the number of classes.
    """
    return [
        (spec, probe(spec, info_of(spec.data, data_root), min_seconds=MIN_SECONDS))
        for spec in distinct_networks(specs)
    ]


def step_seconds(probed: Iterable[Probed]) -> dict[StepKey, float]:
    """Return what `sweeps.plan.cost.estimate` takes as measured."""
    return {step_key(spec): result.seconds_per_step for spec, result in probed}


def probe_text(spec: RunSpec, result: ProbeResult) -> str:
    """Return what was measured of a network, for people."""
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
