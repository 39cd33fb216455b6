"""What every weighting promises, over the whole registry: our own and TorchJD's.

Each method is driven through `backward` and `step`, as training does, on losses of prescribed
values (`Pinned`). Where methods differ by nature a table says how.
"""

import io
import sys

import pytest
import torch
from torch import Tensor

from mtl.spec.methods import METHODS, OWN_METHODS, TORCHJD_METHODS
from mtl.weighting import build_weighting
from mtl.weighting.base import Weighting
from tests.weighting.problems import (
    EVERY_METHOD,
    F64,
    GRADIENTS,
    SOLVERS,
    VALUES,
    Descent,
    Pinned,
    build,
    equal_states,
    run,
    series,
)

NO_WEIGHTS = {"torchjd:ConFIG", "torchjd:GradDrop", "torchjd:TrimmedMean"}
"""Aggregators that are no weighted sum of the rows of the Jacobian."""
MIN_TASKS = {"torchjd:Krum": 3, "torchjd:NashMTL": 2}
"""The library refuses fewer."""


@EVERY_METHOD
@pytest.mark.parametrize("num_tasks", [1, 2, 9])
def test_one_to_nine_tasks(method: str, num_tasks: int) -> None:
    if num_tasks < MIN_TASKS.get(method, 1):
        with pytest.raises(ValueError, match=f"{method}.*refuses.*tasks \\['depth'"):
            build(method, num_tasks)
        return
    weighting = build(method, num_tasks)
    if method in OWN_METHODS:
        assert weighting.weights.sum().item() == pytest.approx(1)
    else:
        assert weighting.weights is None  # nothing is known before the library's first call
    for weights in run(weighting, series(4, 2, num_tasks)):
        if method in NO_WEIGHTS:
            assert weights is None
            continue
        assert weights.shape == (num_tasks,)
        assert weights.dtype == F64
        assert weights.isfinite().all()
        # A smooth maximum may give the smaller losses a share that is 0 in float64.
        if method in OWN_METHODS:
            assert (weights >= 0).all() if method == "stch" else (weights > 0).all()
    if method not in NO_WEIGHTS:
        weighting.weights.zero_()  # a copy
        assert weighting.weights.any()


@pytest.mark.parametrize("method", ["dwa", "equal", "fixed", "gradnorm", "rlw", "scaled_fixed"])
def test_weights_sum_to_one_at_all_times(method: str) -> None:
    for weights in run(build(method), series(5, 3, 3)):
        assert weights.sum().item() == pytest.approx(1, rel=1e-12)


ORDER_MATTERS = {
    "torchjd:GradVac": "goes through the other tasks in a random order of positions",
    "torchjd:Krum": "two rows that are nearest to each other tie, and the first one wins",
    "torchjd:PCD": "the first task is the primary one",
    "torchjd:PCGrad": "goes through the other tasks in a random order of positions",
}


@EVERY_METHOD
def test_permuting_tasks_permutes_weights(method: str) -> None:
    losses = series(3, 1, 3)
    rows = Pinned(3).rows
    tolerance = SOLVERS.get(method, 1e-9)

    def outcome(order: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return the gradient at the shared parameters, and weights in the tasks' first order."""
        weighting = build(method, order=order)
        run(weighting, losses[:, :, list(order)], rows[list(order)])
        problem = Pinned(3, rows[list(order)])
        problem.take(weighting, losses[-1, -1, list(order)])
        weights = weighting.weights
        back = torch.tensor(order).argsort()
        return problem.shared.grad, torch.zeros(3) if weights is None else weights[back]

    straight = outcome((0, 1, 2))
    permuted = [outcome(order) for order in ((1, 0, 2), (2, 1, 0), (1, 2, 0))]
    same = [
        all(
            torch.allclose(a, b, rtol=tolerance, atol=tolerance * float(a.abs().max()))
            for a, b in zip(straight, other, strict=True)
        )
        for other in permuted
    ]
    assert all(same) == (method not in ORDER_MATTERS), same


UNITS = {
    # Weights do not know the unit of a loss.
    "weights": {"dwa", "equal", "fixed", "rlw"},
    # Shares w_i l_i / sum of the overall loss do not know it.
    "shares": {"gls", "lsb", "scaled_fixed", "torchjd:FAMO"},
    # The direction of the shared parameters' gradient does not know it.
    "direction": {f"torchjd:{name}" for name in ("ConFIG", "FairGrad", "IMTLG", "NashMTL")},
}
UNITS_MATTER = {"gradnorm", "imtl_l", "stch", "uncertainty"}
"""Weights and shares know it. The aggregators that are in no set know it as their rows do."""


@EVERY_METHOD
def test_unit_of_one_loss_matters_where_it_may(method: str) -> None:
    losses = series(2, 2, 3) if method in GRADIENTS else series(4, 3, 3)
    options = {"weight_lr": 0.3} if "weight_lr" in METHODS[method].options else {}
    seen = []
    for unit in (1.0, 7.0):
        units = torch.tensor([1.0, unit, 1.0], dtype=F64)
        weighting, problem = build(method, **options), Pinned(3)
        run(weighting, losses * units)
        values = losses[-1, -1] * units
        problem.take(weighting, values)
        weights = weighting.weights
        scales = torch.ones(3, dtype=F64) if weights is None else weights * values
        direction = problem.shared.grad / problem.shared.grad.norm()
        seen.append({"weights": weights, "shares": scales / scales.sum(), "direction": direction})
    tolerance = SOLVERS.get(method, 1e-6)
    for kind, invariant in UNITS.items():
        if method in invariant:
            torch.testing.assert_close(seen[0][kind], seen[1][kind], rtol=tolerance, atol=tolerance)
        elif method in UNITS_MATTER:
            assert not torch.allclose(seen[0][kind], seen[1][kind], rtol=1e-3), kind


@EVERY_METHOD
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_gradients_are_those_of_the_weighted_losses(method: str, dtype: torch.dtype) -> None:
    # With weights w: sum_i w_i c_i a_i at x; w_i c_i at o_i, or c_i where only x is weighted.
    # Called twice: had the history kept a graph, the second backward would run a freed one.
    weighting = build(method)
    run(weighting, series(3, 1, 3))
    problem = Pinned(3, dtype=dtype)
    values = VALUES.to(dtype)
    for _ in range(2):
        problem.take(weighting, values)
        weights = weighting.weights
        weighting.step(lambda: problem.again(values))
        gradient = problem.shared.grad
        assert gradient.dtype == dtype
        assert gradient.isfinite().all()
        own = torch.ones_like(values) if method in GRADIENTS else weights.to(dtype)
        torch.testing.assert_close(problem.own_gradients(), own * values)
        if weights is not None:
            expected = (weights.to(dtype) * values) @ problem.rows
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)
    assert all(not buffer.requires_grad for buffer in weighting.buffers())


@EVERY_METHOD
def test_gradients_are_added_to_those_that_are_there(method: str) -> None:
    once, twice = build(method), build(method)
    problem = Pinned(3)
    values = torch.tensor([0.3, 0.2, 0.5], dtype=F64)
    problem.take(once, values)
    expected = [problem.shared.grad.clone(), problem.own_gradients()]
    problem.shared.grad += 1
    for own in problem.own:
        own.grad += 1
    before = [problem.shared.grad.clone(), problem.own_gradients()]
    twice.backward(problem.losses(values), None, *problem.parameters)
    after = [problem.shared.grad, problem.own_gradients()]
    for a, b, e in zip(after, before, expected, strict=True):
        torch.testing.assert_close(a - b, e)


@EVERY_METHOD
def test_resuming_in_mid_period_changes_nothing(method: str) -> None:
    # The same parameters, weights and state to the last bit, through a file as training has it.
    def periods(weighting: Weighting, problem: Descent, steps: range) -> None:
        for step in steps:
            absent = torch.tensor([True, step != 3, True, True])
            problem.take(weighting, [step], absent)
            if step % 2:
                weighting.end_period()

    options = {"update_weights_every": 2} if method == "torchjd:NashMTL" else {}
    whole, whole_problem = build(method, 4, **options), Descent(4)
    periods(whole, whole_problem, range(6))
    for stop in (1, 5):
        first, problem = build(method, 4, **options), Descent(4)
        periods(first, problem, range(stop))
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second, problem = build(method, 4, **options), problem.copy()
        second.load_state_dict(torch.load(file, weights_only=True))
        assert equal_states(second.state_dict(), first.state_dict())
        periods(second, problem, range(stop, 6))
        for one, other in zip(whole_problem.parameters, problem.parameters, strict=True):
            assert torch.equal(one, other)
        assert equal_states(whole.state_dict(), second.state_dict())
        assert equal_states(whole.weights, second.weights)


@EVERY_METHOD
@pytest.mark.parametrize("scale", [1e-8, 1e6])
def test_losses_of_any_scale_give_finite_numbers(method: str, scale: float) -> None:
    weighting = build(method)
    losses = series(3, 2, 3, scale)
    for weights in run(weighting, losses):
        assert weights is None or weights.isfinite().all()
    problem = Pinned(3, dtype=torch.float32)
    problem.take(weighting, losses[-1, -1])
    assert problem.shared.grad.isfinite().all()


REFUSES_ZERO_IN_THE_CALL = {"gls", "gradnorm", "scaled_fixed"}
REFUSES_ZERO_AT_THE_END = {"dwa", "lsb"}
"""The others work on."""


@EVERY_METHOD
def test_zero_loss_is_named_or_does_no_harm(method: str) -> None:
    weighting, problem = build(method), Pinned(3)
    values = torch.tensor([1.0, 0.0, 1.0], dtype=F64)
    if method in REFUSES_ZERO_IN_THE_CALL:
        with pytest.raises(ValueError, match="'normal'"):
            problem.take(weighting, values)
        return
    problem.take(weighting, values)
    if method in REFUSES_ZERO_AT_THE_END:
        with pytest.raises(ValueError, match="task 'normal'"):
            weighting.end_period()
        return
    weighting.step(lambda: problem.again(values))
    weighting.end_period()
    assert weighting.weights is None or weighting.weights.isfinite().all()
    assert problem.shared.grad.isfinite().all()


@EVERY_METHOD
def test_wrong_shapes_are_refused(method: str) -> None:
    weighting, problem = build(method), Pinned(3)
    losses = problem.losses(torch.ones(3))
    with pytest.raises(ValueError, match="3 losses, one for each"):
        weighting.backward(losses[:2], None, *problem.parameters)
    with pytest.raises(ValueError, match="present of shape"):
        weighting.backward(losses, torch.ones(2, dtype=torch.bool), *problem.parameters)


@pytest.mark.parametrize(
    ("tasks", "priorities", "options", "message"),
    [
        (("a", "b"), None, {"warmth": 2.0}, "Unknown option 'warmth' of method"),
        (("a", "a"), None, {}, "distinct task names"),
        ((), None, {}, "distinct task names"),
        ("ab", None, {}, "sequence of task names"),
        (("a", "b"), (0.5, 0.6), {}, "priorities"),
    ],
)
@pytest.mark.parametrize("method", ["lsb", "equal"])
def test_arguments_that_do_not_fit_are_refused(
    method: str, tasks: tuple[str, ...], priorities: tuple | None, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_weighting(method, tasks, priorities, **options)


def test_options_outside_their_ranges_are_refused() -> None:
    for method, needs in METHODS.items():
        for name in needs.options:
            too_small = 0 if name in needs.positive_options else needs.minimum.get(name, 0) - 0.001
            for bad in (too_small, float("nan"), float("inf")):
                with pytest.raises(ValueError, match=f"{name} to be finite and (above|at least)"):
                    build_weighting(method, ("a", "b", "c"), **{name: bad})


@pytest.mark.parametrize("method", sorted({"gradnorm"} | GRADIENTS))
def test_methods_that_compare_gradients_need_shared_parameters(method: str) -> None:
    assert METHODS[method].needs_gradients
    with pytest.raises(ValueError, match=f"shared_parameters for method '{method}'.*architecture"):
        build(method).backward(Pinned(3).losses(torch.ones(3)))


def test_unknown_methods_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="Unknown method 'lbs'.*equal, fixed"):
        build_weighting("lbs", ("a", "b"))
    with pytest.raises(ValueError, match="Unknown TorchJD method 'PCGard'.*Did you mean PCGrad"):
        build_weighting("torchjd:PCGard", ("a", "b"))


def test_torchjd_is_needed_only_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    monkeypatch.setitem(sys.modules, "torchjd.scalarization", None)
    for method in OWN_METHODS:
        build(method)
    for name in TORCHJD_METHODS:
        with pytest.raises(
            ValueError, match=f"torchjd:{name}.*pip install 'loss-scale-balancing\\[torchjd\\]'"
        ):
            build(f"torchjd:{name}")


@pytest.mark.parametrize("method", sorted(m for m in METHODS if METHODS[m].takes_priorities))
def test_priorities_changed_between_steps_are_as_if_they_had_always_been(method: str) -> None:
    losses, after = series(3, 2, 3), (0.5, 0.2, 0.3)
    changed, unchanged, always = build(method), build(method), build(method)
    always.set_priorities(after)
    for weighting in (changed, unchanged, always):
        run(weighting, losses)
    changed.set_priorities(after)
    unchanged.set_priorities(unchanged.priorities.tolist())
    resumed = build_weighting(method, changed.tasks, after)
    resumed.load_state_dict(changed.state_dict())
    with pytest.raises(ValueError, match="priorities"):
        unchanged.load_state_dict(changed.state_dict())
    again = build(method)
    run(again, losses)
    torch.testing.assert_close(unchanged.weights, again.weights)
    # The weights of lsb go on from the overall loss under the old ones: a common factor.
    factor = 1.0 if method != "lsb" else always.weights.sum() / changed.weights.sum()
    for values in series(1, 2, 3)[0]:
        overall, expected = changed(values), always(values)
        torch.testing.assert_close(factor * changed.weights, always.weights)
        torch.testing.assert_close(factor * overall, expected)
        assert torch.equal(resumed(values), overall)


def test_impossible_priorities_are_refused_and_change_nothing() -> None:
    weighting = build("fixed")
    before = weighting.weights
    with pytest.raises(ValueError, match="sum to 1"):
        weighting.set_priorities((0.5, 0.2, 0.2))
    assert torch.equal(weighting.weights, before)
