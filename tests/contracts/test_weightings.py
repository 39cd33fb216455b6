"""What every weighting promises, over the whole registry."""

import copy
import itertools

import pytest
import torch
from torch import Tensor

from mtl.spec import METHODS
from mtl.weighting import WEIGHTINGS, Weighting, build_weighting

NAMES = ("depth", "normal", "segmentation", "a", "b", "c", "d", "e", "f")
METHOD = pytest.mark.parametrize("method", sorted(WEIGHTINGS))


def build(method: str, num_tasks: int = 3, order: tuple[int, ...] | None = None) -> Weighting:
    """Return a weighting with unequal priorities where it takes them, tasks in `order`."""
    order = tuple(range(num_tasks)) if order is None else order
    raw = [i + 1 for i in range(num_tasks)]
    priorities = (
        tuple(raw[i] / sum(raw) for i in order) if METHODS[method].takes_priorities else None
    )
    return build_weighting(method, tuple(NAMES[i] for i in order), priorities)


def series(num_periods: int, steps: int, num_tasks: int, scale: float = 1.0) -> Tensor:
    """Return positive losses (num_periods, steps, num_tasks), decades apart, from seed 7."""
    generator = torch.Generator().manual_seed(7)
    print("series seed 7")
    noise = torch.rand(num_periods, steps, num_tasks, generator=generator, dtype=torch.float64)
    decades = torch.logspace(0, -3, num_tasks, dtype=torch.float64)
    decay = torch.linspace(1, 0.3, num_periods, dtype=torch.float64)[:, None, None]
    return scale * decades * decay * (0.5 + noise)


def run(weighting: Weighting, losses: Tensor) -> list[Tensor]:
    """Feed the losses period by period; return the weights in force after each period."""
    weights = []
    for period in losses:
        for step in period:
            weighting(step)
        weighting.end_period()
        weights.append(weighting.weights)
    return weights


@METHOD
@pytest.mark.parametrize("num_tasks", range(1, 10))
def test_weights_start_at_sum_one_and_stay_positive(method: str, num_tasks: int) -> None:
    weighting = build(method, num_tasks)
    assert weighting.weights.sum().item() == pytest.approx(1)
    for weights in run(weighting, series(4, 3, num_tasks)):
        assert weights.shape == (num_tasks,)
        assert weights.dtype == torch.float64
        assert (weights > 0).all()


@METHOD
def test_permuting_tasks_permutes_weights(method: str) -> None:
    losses = series(5, 4, 3)
    straight = run(build(method), losses)
    for order in itertools.permutations(range(3)):
        permuted = run(build(method, order=order), losses[:, :, list(order)])
        for before, after in zip(straight, permuted, strict=True):
            torch.testing.assert_close(before[list(order)], after, rtol=1e-12, atol=0)


@METHOD
def test_weights_are_the_gradient_of_the_overall_loss(method: str) -> None:
    weighting = build(method)
    run(weighting, series(3, 2, 3))
    losses = torch.tensor([0.3, 0.02, 5.0], dtype=torch.float64, requires_grad=True)
    weighting(losses).backward()
    torch.testing.assert_close(losses.grad, weighting.weights)


@METHOD
def test_gradients_reach_the_losses_and_not_the_history(method: str) -> None:
    weighting = build(method)
    parameter = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    for _ in range(2):
        weighting.backward(torch.stack([parameter, parameter**2, parameter**3]))
        weighting.end_period()
    # Had the history kept a graph, this backward would try to run the freed one a second time.
    parameter.grad = None
    weighting.backward(torch.stack([parameter, parameter**2, parameter**3]))
    expected = weighting.weights @ torch.tensor([1.0, 4.0, 12.0], dtype=torch.float64)
    assert parameter.grad is not None
    assert parameter.grad.item() == pytest.approx(expected.item())
    assert all(not buffer.requires_grad for buffer in weighting.buffers())


@METHOD
def test_resuming_in_mid_period_changes_nothing(method: str) -> None:
    losses = series(6, 5, 3)
    whole = build(method)
    expected = run(whole, losses)
    first = build(method)
    run(first, losses[:3])
    for step in losses[3][:2]:
        first(step)
    second = build(method)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in losses[3][2:]:
        second(step)
    second.end_period()
    assert torch.equal(second.weights, expected[3])
    run(second, losses[4:])
    assert torch.equal(second.weights, expected[5])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@METHOD
@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1.0, 1e6])
def test_losses_of_any_scale_give_finite_weights(method: str, scale: float) -> None:
    for weights in run(build(method), series(5, 3, 3, scale)):
        assert weights.isfinite().all()


@METHOD
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_is_named(method: str, bad: float) -> None:
    weighting = build(method)
    weighting(torch.tensor([1.0, bad, 1.0]))
    with pytest.raises(ValueError, match="task 'normal'"):
        weighting.end_period()


@METHOD
def test_an_absent_task_enters_neither_the_overall_loss_nor_its_mean(method: str) -> None:
    weighting, reference = build(method), build(method)
    for step in ((1.0, 2.0, 3.0), (3.0, 4.0, 5.0)):
        weighting(torch.tensor(step))
        reference(torch.tensor(step))
    # What stands in the place of an absent loss must not matter, NaN included.
    losses = torch.tensor([7.0, float("nan"), 9.0], requires_grad=True)
    present = torch.tensor([True, False, True])
    overall = weighting(losses, present)
    weights = weighting.weights.float()
    assert overall.item() == pytest.approx((weights[0] * 7 + weights[2] * 9).item())
    overall.backward()
    assert losses.grad is not None
    assert losses.grad[1].item() == 0
    assert weighting.period_means()[1] == 3.0  # (2 + 4) / 2, the third step not counted
    assert weighting.period_means()[0] == pytest.approx(11 / 3)


@METHOD
def test_a_task_absent_a_whole_period_keeps_its_last_mean(method: str) -> None:
    present = torch.tensor([True, False, True])
    absent, constant = build(method), build(method)
    run(absent, series(2, 3, 3))
    run(constant, series(2, 3, 3))
    last = series(2, 3, 3)[-1].mean(0)
    losses = last * torch.tensor([0.9, 1.0, 0.7])
    absent(losses, present)
    constant(losses)  # the absent task's loss stood at its last mean
    absent.end_period()
    constant.end_period()
    torch.testing.assert_close(absent.weights, constant.weights, rtol=1e-12, atol=0)


@METHOD
def test_wrong_shapes_are_refused(method: str) -> None:
    weighting = build(method)
    with pytest.raises(ValueError, match="3 losses, one for each"):
        weighting(torch.ones(2))
    with pytest.raises(ValueError, match="present of shape"):
        weighting(torch.ones(3), torch.ones(2, dtype=torch.bool))


@METHOD
def test_unknown_options_and_bad_priorities_are_refused(method: str) -> None:
    with pytest.raises(ValueError, match="Unknown option of method"):
        build_weighting(method, ("a", "b"), temperature=2.0)
    with pytest.raises(ValueError, match="distinct task names"):
        build_weighting(method, ("a", "a"))
    with pytest.raises(ValueError, match="priorities"):
        build_weighting(method, ("a", "b"), (0.5, 0.6))


def test_unknown_methods_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="Unknown method 'lbs'.*equal, fixed, lsb"):
        build_weighting("lbs", ("a", "b"))


# One row a method: weights in force in periods 1 to 4 for the losses below, by hand.
#   l1 = (1, 4), l2 = (0.5, 4), l3 = (0.4, 1); priorities (1/4, 3/4); increase_rate 0.5
# lsb, t = 1: (1/4, 3/4).
#   L1 = 1/4 + 3 = 3.25; t = 2: (1/4 * 3.25 / 1, 3/4 * 3.25 / 4) = (0.8125, 0.609375)
#   L2 = 0.8125 * 0.5 + 0.609375 * 4 = 2.84375; beta_3 = 0.5 * 2 = 1; ratios (1/2, 1)
#   alpha D pi = (1/8, 3/4) / (7/8) = (1/7, 6/7)
#   t = 3: (2.84375 / 7 / 0.5, 6 * 2.84375 / 7 / 4) = (0.8125, 0.609375): D halved what l halved
#   L3 = 0.8125 * 0.4 + 0.609375 * 1 = 0.934375; beta_4 = 1.5; ratios (0.8, 0.25)
#   D ~ (0.8^1.5, 0.25^1.5) = (0.715541753, 0.125); pi D = (0.178885438, 0.09375)
#   shares = (0.178885438, 0.09375) / 0.272635438 = (0.656134, 0.343866)
#   t = 4: (0.656134 * 0.934375 / 0.4, 0.343866 * 0.934375 / 1) = (1.532688, 0.321300)
GOLDEN_LOSSES = torch.tensor([[[1.0, 4.0]], [[0.5, 4.0]], [[0.4, 1.0]]], dtype=torch.float64)
GOLDEN = {
    "equal": [(0.5, 0.5)] * 4,
    "fixed": [(0.25, 0.75)] * 4,
    "lsb": [(0.25, 0.75), (0.8125, 0.609375), (0.8125, 0.609375), (1.532688, 0.321300)],
}


@METHOD
def test_golden_weights(method: str) -> None:
    needs = METHODS[method]
    weighting = build_weighting(
        method,
        ("a", "b"),
        (0.25, 0.75) if needs.takes_priorities else None,
        **dict.fromkeys(needs.options, 0.5),
    )
    weights = [weighting.weights, *run(weighting, GOLDEN_LOSSES)]
    for got, expected in zip(weights, GOLDEN[method], strict=True):
        assert got.tolist() == pytest.approx(expected, abs=2e-6)
