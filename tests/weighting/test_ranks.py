"""Two processes that train together are one process that sees the whole batch.

The ranks get half a batch each, over gloo; every method drives a `DistributedDataParallel` network
on them and, with the same start, a plain network on the whole batch.
"""

import itertools
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtl.spec.methods import METHODS
from mtl.weighting import WEIGHTINGS, build_weighting
from mtl.weighting.base import Weighting
from tests.weighting.problems import GRADIENTS, SOLVERS

TASKS = ("depth", "normal", "segmentation")
RANKS, STEPS, BATCH = 2, 9, 8


class Network(nn.Module):
    """A shared layer and a head a task; float64."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 5)
        self.heads = nn.ModuleList(nn.Linear(5, 2) for _ in TASKS)
        generator = torch.Generator().manual_seed(31)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
        self.double()

    def forward(self, inputs: Tensor) -> Tensor:
        features = torch.tanh(self.shared(inputs))
        return torch.stack([head(features) for head in self.heads])


class Inside(nn.Module):
    """A network that holds its weighting, as a LightningModule does."""

    def __init__(self, weighting: Weighting) -> None:
        super().__init__()
        self.network, self.weighting = Network(), weighting

    def forward(self, inputs: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
        return self.weighting(*losses_of(self.network(inputs), targets, valid))


def losses_of(predictions: Tensor, targets: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean losses over the samples with labels, above 0.1, and who is present."""
    errors = (predictions - targets).square().mean(-1)
    counts = valid.sum(1)
    losses = torch.where(valid, errors, 0.0).sum(1) / counts.clamp(min=1) + 0.1
    return losses, counts > 0


def batch_of(step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs, targets and valid of the whole batch.

    In step 4 the second half lacks labels of a task, in step 5 everybody does.
    """
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(BATCH, 4, generator=generator, dtype=torch.float64)
    targets = torch.randn(len(TASKS), BATCH, 2, generator=generator, dtype=torch.float64)
    targets *= torch.tensor([1.0, 3.0, 0.3]).view(-1, 1, 1)
    valid = torch.ones(len(TASKS), BATCH, dtype=torch.bool)
    if step == 4:
        valid[1, BATCH // RANKS :] = False
    if step == 5:
        valid[2] = False
    return inputs, targets, valid


def built(method: str, priorities: tuple[float, ...] = (0.2, 0.3, 0.5)) -> Weighting:
    needs = METHODS[method]
    options = {"weight_lr": 0.05} if "weight_lr" in needs.options else {}
    return build_weighting(method, TASKS, priorities if needs.takes_priorities else None, **options)


def train(method: str, rank: int | None, inside: bool = False) -> dict[str, Any]:
    """Return parameters and weights after training on one half, or for None on everything."""
    weighting = built(method)
    part = (
        slice(None) if rank is None else slice(rank * BATCH // RANKS, (rank + 1) * BATCH // RANKS)
    )
    module: nn.Module = Inside(weighting) if inside else Network()
    network = module.network if inside else module
    wrapped = module if rank is None else DistributedDataParallel(module)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    weights = []
    for step in range(STEPS):
        if method == "torchjd:Krum" and step == 5:
            continue  # it refuses two tasks
        inputs, targets, valid = batch_of(step)
        inputs, targets, valid = inputs[part], targets[:, part], valid[:, part]
        optimizer.zero_grad()
        if inside:
            wrapped(inputs, targets, valid).backward()
        else:
            losses, present = losses_of(wrapped(inputs), targets, valid)
            heads = [list(head.parameters()) for head in network.heads]
            weighting.backward(losses, present, list(network.shared.parameters()), heads)
        weights.append(weighting.weights)
        optimizer.step()

        def again(inputs: Tensor = inputs, targets: Tensor = targets, valid: Tensor = valid) -> Any:
            with torch.no_grad():
                return losses_of(network(inputs), targets, valid)[0]

        weighting.step(again)
        if step % 3 == 2:
            weighting.end_period()
    return {"parameters": [p.detach() for p in network.parameters()], "weights": weights}


def cases() -> list[tuple[str, bool]]:
    outside = [(method, False) for method in sorted(WEIGHTINGS)]
    return outside + [(m, True) for m in sorted(set(WEIGHTINGS) - GRADIENTS - {"gradnorm"})]


def numbers_reduced() -> list[int]:
    """Return how many numbers each all-reduce of three calls of a weighting holds."""
    weighting, sizes, reduce = built("lsb"), [], dist.all_reduce

    def counting(values: Tensor, **options: Any) -> None:
        sizes.append(values.numel())
        reduce(values, **options)

    dist.all_reduce = counting
    for _ in range(3):
        weighting(torch.ones(3))
    dist.all_reduce = reduce
    return sizes


DIFFERENCES: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "priorities": (("lsb", {}), ("lsb", {"priorities": (0.5, 0.3, 0.2)})),
    "option": (("lsb", {"increase_rate": 0.1}), ("lsb", {"increase_rate": 0.5})),
    "method": (("dwa", {}), ("rlw", {})),
    "aggregator": (("torchjd:PCGrad", {}), ("torchjd:UPGrad", {})),
    "seed": (("rlw", {"seed": 1}), ("rlw", {"seed": 2})),
    "period": (("lsb", {"steps_per_period": 2}), ("lsb", {"steps_per_period": 3})),
}
"""What differs -> method and arguments on each rank."""


def refusal(method: str, arguments: dict[str, Any]) -> str:
    """Return what a call says on this rank."""
    network = Network()
    heads = [list(head.parameters()) for head in network.heads]
    losses, present = losses_of(network(batch_of(0)[0]), *batch_of(0)[1:])
    try:
        build_weighting(method, TASKS, **arguments).backward(
            losses, present, list(network.shared.parameters()), heads
        )
    except ValueError as error:
        return str(error)
    return "taken"


def train_as_rank(number: int, folder: str, first: int) -> None:
    rank = first + number
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meeting", timedelta(minutes=5), rank=rank, world_size=RANKS
    )
    found: dict[Any, Any] = {case: train(case[0], rank, case[1]) for case in cases()}
    found["differences"] = {case: refusal(*pair[rank]) for case, pair in DIFFERENCES.items()}
    found["numbers reduced"] = numbers_reduced()
    if rank == 0:  # validation on one rank waits for nobody
        with torch.no_grad():
            built("lsb")(torch.ones(3))
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    # One of them is this process, which has torch.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASTER_ADDR", "127.0.0.1")
        patch.setenv("USE_LIBUV", "0")
        others = mp.spawn(train_as_rank, (str(folder), 1), nprocs=RANKS - 1, join=False)
        try:
            train_as_rank(0, str(folder), first=0)
        except BaseException:
            for process in others.processes:  # it would wait for this one
                process.kill()
            raise
        while not others.join():
            continue
    return [torch.load(Path(folder, f"{rank}.pt")) for rank in range(RANKS)]


@pytest.mark.parametrize(("method", "inside"), cases())
def test_two_ranks_are_one_process_with_the_whole_batch(
    ranks: list[dict[Any, Any]], method: str, inside: bool
) -> None:
    whole, (one, other) = train(method, None), (found[method, inside] for found in ranks)
    assert all(map(torch.equal, one["parameters"], other["parameters"]))
    tolerance = SOLVERS.get(method, 1e-9)
    for got, expected in itertools.chain(
        zip(one["parameters"], whole["parameters"], strict=True),
        zip(one["weights"], whole["weights"], strict=True),
    ):
        if expected is not None:
            torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def test_a_call_costs_one_reduction_of_two_numbers_a_task(ranks: list[dict[Any, Any]]) -> None:
    # The first call also compares the ranks' settings.
    assert [found["numbers reduced"] for found in ranks] == [[2, 6, 6, 6]] * 2


@pytest.mark.parametrize("case", DIFFERENCES)
def test_ranks_that_differ_are_refused_on_all(ranks: list[dict[Any, Any]], case: str) -> None:
    for found in ranks:
        assert "same weighting on every rank" in found["differences"][case]
