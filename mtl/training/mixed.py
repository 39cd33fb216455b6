"""A network between two forks of one trunk: a mean of their weights, batch norm measured again.

Forks have gone apart from one trained network, and the way between them stays among good networks;
between two networks trained apart it does not, though they began alike (docs/EXPERIMENTS.md).
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch.optim.swa_utils import update_bn

from mtl.data.batches import MappedSplit, training_batches
from mtl.data.prepared import prepare
from mtl.errors import UsageError
from mtl.networks.base import MultiTaskNetwork
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.streams import global_stream
from mtl.training.evaluation import device_of, load_network, memory_format, set_arithmetic


def mixed_network(
    store: Store | str | Path, runs: tuple[str, str], mix: float, runtime: Runtime | None = None
) -> MultiTaskNetwork:
    """Return the network of (1 - mix) of the first run's weights and `mix` of the second's.

    It is in evaluation mode on the device of `runtime`. Means and variances of batch norm, which
    weights in between do not have in between, are measured on the training images in one pass.

    Args:
        store: of both runs.
        runs: two forks of one trunk that differ in their priorities alone, done, with weights.
        mix: from 0, the first run, to 1, the second.
        runtime: where the prepared data lie, and the device.

    Raises:
        UsageError: for runs that are no such forks, or `mix` out of range.
        StoreError: as of `load_network`.
    """
    store = store if isinstance(store, Store) else Store(store, create=False)
    here = runtime or Runtime()
    if not 0 <= mix <= 1:
        raise UsageError(f"Expected a mix from 0 to 1, got {mix:g}.")
    spec = _of_one_trunk(store, runs)
    networks = [load_network(store, run_id) for run_id in runs]
    device = device_of(here)
    network, other = (held.to(device) for held in networks)
    with torch.no_grad():
        for value, second in zip(network.parameters(), other.parameters(), strict=True):
            value.lerp_(second, mix)
    _renew_batch_norm(network, spec, here)
    return network.eval()


def _renew_batch_norm(network: MultiTaskNetwork, spec: RunSpec, runtime: Runtime) -> None:
    """Measure the means and variances of batch norm on the training images of a run, flips too."""
    device = next(network.parameters()).device
    torch.set_num_threads(runtime.num_threads)
    set_arithmetic(spec)
    folder = prepare(spec.data, runtime.data_root)
    split = MappedSplit(folder, "train", (), measured_only=False)  # of the images alone
    batches = training_batches(
        split,
        seed=spec.seed,
        epoch=spec.epochs,
        batch_size=spec.batch_size,
        horizontal_flips=spec.horizontal_flips,
        mirror_signs={},
        device=device,
    )
    images = (batch.images.contiguous(memory_format=memory_format(spec)) for batch in batches)
    is_bf16 = spec.precision == "bf16"
    with (
        global_stream(spec.seed, "batch norm"),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_bf16),
    ):
        update_bn(images, network)


def _of_one_trunk(store: Store, runs: tuple[str, str]) -> RunSpec:
    """Return the first run's spec.

    Raises:
        UsageError: unless both are forks of one trunk that differ in priorities alone.
    """
    first, second = (store.spec(run_id) for run_id in runs)
    if not isinstance(first, RunSpec) or first.trunk is None or first.is_mixed:
        why = "are not forked"
    elif not isinstance(second, RunSpec) or replace(second, priorities=first.priorities) != first:
        why = "differ in more than their priorities"
    else:
        return first
    raise UsageError(
        f"Expected two forks of one trunk, got runs {runs[0]} and {runs[1]}, which {why}. Between "
        "others there is no good network; train with --fork-at."
    )
