"""The adapters of TorchJD against the library itself, and what they add: absence, draws, names."""

from itertools import pairwise

import pytest
import torch
import torchjd.aggregation
from torch import Tensor, nn
from torchjd.autojac import mtl_backward

from mtl.spec.methods import TORCHJD_METHODS
from mtl.streams import global_stream
from mtl.weighting import build_weighting
from mtl.weighting.base import Weighting
from mtl.weighting.gradients import gradients, task_roots
from tests.weighting.problems import F64, Descent, Pinned

TASKS = ("a", "b", "c")
AGGREGATORS = sorted(set(TORCHJD_METHODS) - {"FAMO"})


def build(name: str, num_tasks: int = 3, **options: float) -> Weighting:
    return build_weighting(f"torchjd:{name}", tuple("abcdefghi"[:num_tasks]), **options)


def library_aggregator(name: str) -> nn.Module:
    """Return the library's own object, with our defaults."""
    more = {"n_tasks": 3} if name == "NashMTL" else {}
    return getattr(torchjd.aggregation, name)(**TORCHJD_METHODS[name].options, **more)


class Network(nn.Module):
    """A shared layer and a head a task."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(31)
        print("seed 31")
        self.shared = nn.Linear(4, 5)
        self.heads = nn.ModuleList(nn.Linear(5, 2) for _ in TASKS)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)
        self.inputs = torch.randn(7, 4, generator=generator)
        self.targets = torch.randn(3, 7, 2, generator=generator)

    def features_and_losses(self) -> tuple[Tensor, list[Tensor]]:
        features = torch.tanh(self.shared(self.inputs))
        return features, [
            (head(features) - target).square().mean()
            for head, target in zip(self.heads, self.targets, strict=True)
        ]


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem:UserWarning")
@pytest.mark.parametrize("name", AGGREGATORS)
def test_gradients_are_those_of_mtl_backward(name: str) -> None:
    ours, theirs, weighting = Network(), Network(), build(name)
    aggregator = library_aggregator(name)
    for call in (1, 2, 3):
        ours.zero_grad()
        weighting.backward(
            torch.stack(ours.features_and_losses()[1]),
            None,
            ours.shared.parameters(),
            [head.parameters() for head in ours.heads],
        )
        theirs.zero_grad()
        features, losses = theirs.features_and_losses()
        mtl_backward(losses, features=features)
        with global_stream(0, "torchjd", call):
            torchjd.autojac.jac_to_grad(theirs.shared.parameters(), aggregator)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["MGDA", "PCGrad", "UPGrad", "IMTLG", "CAGrad"])
def test_absent_task_has_no_row(name: str) -> None:
    pair, three = Pinned(2, Pinned(3).rows[[0, 2]]), Pinned(3)
    without, absent = build(name, 2), build(name)
    pair.take(without, torch.tensor([0.5, 1.0], dtype=F64))
    three.take(absent, torch.tensor([0.5, 9.0, 1.0], dtype=F64), torch.tensor([True, False, True]))
    torch.testing.assert_close(three.shared.grad, pair.shared.grad)
    assert absent.weights[1] == 0
    torch.testing.assert_close(absent.weights[[0, 2]], without.weights)


def test_absent_task_keeps_what_is_remembered_of_it() -> None:
    # ExcessMTL sums squared gradients by row: with the row left out it would start again.
    weighting, problem = build("ExcessMTL"), Pinned(3)
    for _ in range(2):
        problem.take(weighting, torch.ones(3, dtype=F64))
    sums = weighting.library.weighting._sq_grad_sum.clone()
    problem.take(weighting, torch.ones(3, dtype=F64), torch.tensor([True, False, True]))
    after = weighting.library.weighting._sq_grad_sum
    assert torch.equal(after[1], sums[1])
    assert (after[0] > sums[0]).all()
    assert weighting.weights[1] == 0


def test_famo_uses_the_present_tasks_alone() -> None:
    pair, three = build("FAMO", 2), build("FAMO")
    losses = torch.tensor([0.5, torch.nan, 2.0], dtype=F64)
    overall = three(losses, torch.tensor([True, False, True]))
    torch.testing.assert_close(overall, pair(losses[[0, 2]]))
    torch.testing.assert_close(three.weights[[0, 2]], pair.weights)
    assert three.weights[1] == 0


def test_famo_moves_towards_the_task_whose_loss_fell_least() -> None:
    weighting, problem = build("FAMO"), Pinned(3)
    logits = next(weighting.library.parameters())
    for _ in range(5):
        problem.take(weighting, torch.ones(3, dtype=F64))
        weighting.step(lambda: torch.tensor([0.9, 0.7, 0.5], dtype=F64))
    weights = weighting.weights
    assert weights[0] > weights[1] > weights[2]
    assert weights.sum().item() == pytest.approx(1, rel=1e-6)
    before = logits.detach().clone()
    problem.take(weighting, torch.ones(3, dtype=F64), torch.tensor([True, False, True]))
    weighting.step(lambda: torch.tensor([0.9, torch.nan, 0.5], dtype=F64))
    assert logits[1] == before[1]  # absent
    assert logits[0] != before[0]


def test_famo_needs_finite_losses_after_the_step() -> None:
    weighting, problem = build("FAMO"), Pinned(3)
    with pytest.raises(ValueError, match="losses_again for method 'torchjd:FAMO'"):
        weighting.step()
    problem.take(weighting, torch.ones(3, dtype=F64))
    with pytest.raises(ValueError, match="finite loss after the step of task 'b'"):
        weighting.step(lambda: torch.tensor([0.9, torch.nan, 0.5], dtype=F64))


@pytest.mark.parametrize("name", ["GradDrop", "GradVac", "PCGrad"])
def test_draws_differ_by_call_and_seed_alone(name: str) -> None:
    def drawn(seed: int) -> list[Tensor]:
        weighting = build_weighting(f"torchjd:{name}", tuple("abcde"), seed=seed)
        problem, found = Pinned(5), []
        for _ in range(6):
            problem.take(weighting, torch.ones(5, dtype=F64))
            found.append(problem.shared.grad.clone())
        return found

    state = torch.get_rng_state()
    one, again_one, other = drawn(0), drawn(0), drawn(1)
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, one, again_one))
    assert not all(map(torch.equal, one, other))
    assert not all(torch.equal(a, b) for a, b in pairwise(one))


def test_missing_solver_or_older_torchjd_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torchjd._mixins.find_spec", lambda _: None)
    remedy = r"pip install 'loss-scale-balancing\[torchjd\]'\.$"
    with pytest.raises(ValueError, match=f"torchjd:UPGrad.*requires.*{remedy}"):
        build("UPGrad")
    monkeypatch.delattr("torchjd.aggregation.PCD")
    with pytest.raises(ValueError, match="TorchJD 0.18.*'torchjd:PCD'.*no PCD in"):
        build("PCD")


def test_refusal_of_the_library_is_one_sentence() -> None:
    for name, options in (
        ("PCD", {"beta": 1.0}),
        ("GradVac", {"beta": 2.0}),
        ("TrimmedMean", {"trim_number": 2}),
        ("Krum", {"n_selected": 4}),
    ):
        with pytest.raises(ValueError, match=f"^Method 'torchjd:{name}' refuses .*\\)$"):
            build(name, **options)
    # Three tasks are enough for Krum, two present ones are not.
    with pytest.raises(ValueError, match="Method 'torchjd:Krum' refuses.*3 rows"):
        Pinned(3).take(build("Krum"), torch.ones(3), torch.tensor([True, False, True]))


def test_gradient_that_is_not_finite_is_named() -> None:
    problem = Pinned(3)
    steep = (problem.shared.sum() - 12).sqrt() * problem.own[2]
    losses = torch.stack([*problem.terms(torch.ones(3))[:2], steep])
    with pytest.raises(ValueError, match="finite gradient of task 'c'"):
        build("MGDA").backward(losses, None, *problem.parameters)


def test_parameters_in_no_list_are_refused() -> None:
    # Their gradient would stay away without a word: heads that are forgotten, or a generator that
    # the first step has used up.
    problem, weighting = Pinned(3), build("UPGrad")
    with pytest.raises(ValueError, match="lists without 3 of them, one of shape .*generator"):
        weighting.backward(problem.losses(torch.ones(3)), None, [problem.shared])
    once = [(own for own in [own]) for own in problem.own]
    weighting.backward(problem.losses(torch.ones(3)), None, [problem.shared], once)
    with pytest.raises(ValueError, match="lists without 3 of them"):
        weighting.backward(problem.losses(torch.ones(3)), None, [problem.shared], once)


def test_aggregator_has_no_overall_loss() -> None:
    with pytest.raises(ValueError, match="call of backward for method 'torchjd:MGDA'"):
        build("MGDA")(torch.ones(3))
    problem, weighting = Pinned(3), build("MGDA")
    losses = problem.losses(torch.ones(3))
    with pytest.raises(ValueError, match="task_parameters of 3 tasks, got 2"):
        weighting.backward(losses, None, [problem.shared], [[], []])


def test_numbers_of_the_library_are_float64() -> None:
    library = build("FAMO").library
    assert {value.dtype for value in [*library.parameters(), *library.buffers()]} == {F64}


def test_graph_of_one_loss_is_found_in_the_stack() -> None:
    problem = Descent(3)
    losses = problem.losses(0)
    parameters, one = [problem.shared, *problem.own], torch.ones((), dtype=F64)
    for i, (fast, slow) in enumerate(zip(task_roots(losses), task_roots(losses * 1), strict=True)):
        first = gradients(fast, parameters, one, retain_graph=True)
        other = gradients(slow, parameters, one, retain_graph=True)
        for a, b in zip(first, other, strict=True):
            torch.testing.assert_close(a, b)
        assert [bool(g.any()) for g in first[1:]] == [j == i for j in range(3)]
    # The fast way does not enter the other tasks' graphs at all.
    entered = []
    problem.own[1].register_hook(lambda grad: entered.append(1))
    terms = [problem.own[0].sum() * 1, problem.own[1].sum() * 1]
    gradients(task_roots(torch.stack(terms))[0], [problem.own[0]], one, retain_graph=False)
    assert not entered


def test_constant_loss_has_gradient_zero() -> None:
    problem = Pinned(2)
    losses = torch.stack([problem.terms(torch.ones(2))[0], torch.tensor(3.0, dtype=F64)])
    weighting = build("MGDA", 2)
    weighting.backward(losses, None, [problem.shared], [[problem.own[0]], [problem.own[1]]])
    assert problem.shared.grad.isfinite().all()
    assert (problem.own[1].grad == 0).all()


def test_rows_of_several_tasks_get_the_gradients_of_all() -> None:
    # Full sharing's output convolution has rows of its own for each task: one tensor, listed for
    # every task. Its gradient is that of the plain sum of the losses.
    problem = Pinned(3)
    output = nn.Parameter(torch.ones(3, dtype=F64))
    losses = torch.stack([term * output[i] for i, term in enumerate(problem.terms(torch.ones(3)))])
    build("MGDA").backward(losses, None, [problem.shared], [[output, own] for own in problem.own])
    assert output.grad.tolist() == pytest.approx([1, 1, 1])
