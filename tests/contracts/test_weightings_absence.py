"""What every weighting does with a task that has no labels in a batch, or for a whole period."""

from typing import Any

import pytest
import torch

from tests.weighting.problems import (
    EVERY_METHOD,
    F64,
    GRADIENTS,
    Pinned,
    build,
    equal_states,
    run,
    series,
)


@EVERY_METHOD
def test_absent_task_enters_nothing(method: str) -> None:
    # Neither overall loss nor gradient nor mean, whatever stands in its place. Where losses are not
    # stacked, the graph of one cannot be separated from the others'.
    present = torch.tensor([True, False, True, True])
    values = torch.tensor([0.7, 0.4, 0.9, 0.2], dtype=F64)

    def outcome(in_its_place: float, stacked: bool = True) -> list[Any]:
        weighting, problem = build(method, 4), Pinned(4)
        for step in series(2, 2, 4)[0]:
            problem.take(weighting, step)
            weighting.step(lambda step=step: problem.again(step))
        before = weighting.period_means()
        terms = problem.terms(values)
        terms[1] = torch.tensor(in_its_place, dtype=F64)
        losses = torch.stack(terms) if stacked else torch.stack(terms) * 1
        problem.shared.grad = None
        for own in problem.own:
            own.grad = None
        weighting.backward(losses, present, *problem.parameters)
        found = [problem.shared.grad, problem.own_gradients(), weighting.weights]
        assert found[1][1] == 0
        if weighting.weights is not None:
            expected = torch.where(present, weighting.weights * values, 0.0) @ problem.rows
            torch.testing.assert_close(found[0], expected)
        after = weighting.period_means()
        assert after[1] == before[1]
        assert all(after[i] != before[i] for i in (0, 2, 3))
        if method not in GRADIENTS:
            found.append(weighting(losses, present).detach())
        weighting.step(lambda: problem.again(losses.detach()))
        weighting.end_period()
        return [*found, weighting.weights, weighting.state_dict()]

    expected = outcome(1.0)
    for junk, stacked in ((float("nan"), True), (float("inf"), False), (-3.0, True)):
        assert equal_states(outcome(junk, stacked), expected), junk


@EVERY_METHOD
def test_batch_without_any_label_changes_nothing(method: str) -> None:
    weighting, problem = build(method), Pinned(3)
    for step in series(1, 2, 3)[0]:
        problem.take(weighting, step)
        weighting.step(lambda step=step: problem.again(step))
    before = weighting.period_means()
    learned = [parameter.detach().clone() for parameter in weighting.parameters()]
    nobody = torch.zeros(3, dtype=torch.bool)
    problem.take(weighting, torch.ones(3, dtype=F64), nobody)
    weighting.step(lambda: torch.full((3,), torch.nan, dtype=F64))
    assert problem.shared.grad is None or (problem.shared.grad == 0).all()
    assert (problem.own_gradients() == 0).all()
    if method not in GRADIENTS:
        assert weighting(torch.full((3,), torch.nan, dtype=F64), nobody).item() == 0
    assert weighting.period_means() == before
    assert all(map(torch.equal, weighting.parameters(), learned))


@pytest.mark.parametrize("method", ["dwa", "lsb"])
def test_task_absent_a_whole_period_keeps_its_last_mean(method: str) -> None:
    present = torch.tensor([True, False, True])
    absent, constant = build(method), build(method)
    run(absent, series(2, 3, 3))
    run(constant, series(2, 3, 3))
    losses = series(2, 3, 3)[-1].mean(0) * torch.tensor([0.9, 1.0, 0.7])
    absent(losses, present)
    constant(losses)  # the absent task's loss stood at its last mean
    for weighting in (absent, constant):
        weighting.end_period()
    torch.testing.assert_close(absent.weights, constant.weights, rtol=1e-12, atol=0)
