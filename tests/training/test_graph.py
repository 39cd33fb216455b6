"""Steps as CUDA graphs: what of them a CPU can show, and equality on a GPU."""

from collections.abc import Callable

import pytest
import torch

from mtl.data.batches import Batch
from mtl.networks.base import MultiTaskNetwork
from mtl.spec import RunSpec
from mtl.spec.methods import OWN_METHODS
from mtl.training.evaluation import new_network
from mtl.training.graph import GraphedStepper, why_eager
from mtl.training.step import EpochLog, Stepper
from mtl.weighting import build_weighting
from tests.training.test_no_waiting import CPU, INFO, a_spec, a_split

TASKS = ("depth", "segmentation")
GRAPHED = sorted(set(OWN_METHODS) - {"rlw"})
ORDER = ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9))
"""Samples of an epoch's batches; the last one is short."""


def batches(device: torch.device) -> list[Batch]:
    split = a_split(TASKS, num_images=10, device=device)
    return [split.batch(torch.tensor(rows).numpy(), device) for rows in ORDER]


def trained(
    spec: RunSpec, device: torch.device, graphed: bool, record: Callable | None = None
) -> tuple[MultiTaskNetwork, list, list]:
    """Train five epochs; return the network, the losses and the weights of the last."""
    network = new_network(spec, INFO).to(device).to(memory_format=torch.channels_last)
    weighting = build_weighting(
        spec.method, TASKS, spec.priorities, skip_nonfinite=True, **spec.method_options
    ).to(device)
    on_gpu = device.type == "cuda"
    # On a GPU fused AdamW reads float32; here nothing shall be rounded.
    rate = torch.tensor(1e-3, device=device, dtype=None if on_gpu else torch.float64)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=rate if graphed else 1e-3,
        fused=True,
        capturable=graphed and on_gpu,
    )
    stepper, log = Stepper(spec, network, weighting, optimizer, INFO), EpochLog(2, device)
    graphs = GraphedStepper(stepper, log, record) if graphed else None
    network.train()
    for epoch in range(5):
        log.restart()
        for batch in batches(device):
            rate_now = 1e-3 / (1 + epoch)
            if graphs is None:
                stepper.take_step(batch, rate_now, log)
            else:
                graphs.take_step(batch, rate_now)
        weighting.end_period()
    return network, log.losses(), log.weights()


def assert_equal_training(one: tuple, other: tuple, **tolerance: float) -> None:
    for name, value in one[0].state_dict().items():
        torch.testing.assert_close(other[0].state_dict()[name], value, **tolerance)
    for first, second in zip(one[1:], other[1:], strict=True):
        assert second == pytest.approx(first, rel=max(tolerance.values()))


@pytest.mark.parametrize("method", ["lsb", "gradnorm"])
def test_buffers_and_a_second_graph_for_the_short_batch_train_as_eager_steps_do(method):
    spec, recorded = a_spec(method, TASKS), []

    def record(launch: Callable[[], None]) -> Callable[[], None]:
        recorded.append(launch)
        return launch

    plain = trained(spec, CPU, graphed=False)
    buffered = trained(spec, CPU, graphed=True, record=record)
    assert len(recorded) == 2  # of four images, and of two
    assert_equal_training(plain, buffered, rtol=0, atol=0)


def test_run_goes_on_where_recording_fails():
    def record(launch: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    plain = trained(a_spec("lsb", TASKS), CPU, graphed=False)
    with pytest.warns(UserWarning, match="got 'operation not permitted'. The run goes on"):
        other = trained(a_spec("lsb", TASKS), CPU, graphed=True, record=record)
    assert_equal_training(plain, other, rtol=0, atol=0)


def test_what_may_wait_is_no_graph():
    gpu = torch.device("cuda")
    assert [why_eager(a_spec(method, TASKS), gpu, True) for method in GRAPHED] == [None] * len(
        GRAPHED
    )
    assert "host" in why_eager(a_spec("rlw", TASKS), gpu, True)
    assert "may wait" in why_eager(a_spec("torchjd:UPGrad", TASKS), gpu, True)
    assert why_eager(a_spec("lsb", TASKS), CPU, True) == "no GPU"
    assert "not asked for" in why_eager(a_spec("lsb", TASKS), gpu, False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("method", GRAPHED)
@pytest.mark.parametrize("changes", [{}, {"micro_batches": 2}, {"precision": "bf16"}])
def test_graphs_train_as_eager_steps_do(method, changes):
    device, spec = torch.device("cuda"), a_spec(method, TASKS, **changes)
    plain = trained(spec, device, graphed=False)
    graphed = trained(spec, device, graphed=True)
    assert_equal_training(plain, graphed, rtol=2e-2, atol=2e-3)
