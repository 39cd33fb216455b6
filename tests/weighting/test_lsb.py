"""Loss scale balancing against its equations and properties."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtl.weighting import build_weighting
from mtl.weighting.lsb import LSB

TASKS = ("depth", "normal", "segmentation")


def lsb(
    priorities: Sequence[float] | None = None,
    increase_rate: float = 0.02,
    clamp: float | None = None,
) -> LSB:
    weighting = build_weighting("lsb", TASKS, priorities, increase_rate=increase_rate, clamp=clamp)
    assert isinstance(weighting, LSB)
    return weighting


def feed(weighting: LSB, means: list[list[float]]) -> list[Tensor]:
    """Return the weights in force in periods 1, 2, ... with one step a period."""
    weights = [weighting.weights]
    for mean in means:
        weighting(torch.tensor(mean, dtype=torch.float64))
        weighting.end_period()
        weights.append(weighting.weights)
    return weights


def reference_weights(
    priorities: list[float], means: list[list[float]], increase_rate: float
) -> list[list[float]]:
    """The printed equations, term by term, in linear space and plain Python."""
    n = len(priorities)
    weights = [list(priorities)]
    overall: list[float] = []
    for t, mean in enumerate(means, start=2):  # weights of period t from means up to t - 1
        overall.append(sum(w * m for w, m in zip(weights[-1], mean, strict=True)))
        if t == 2:
            difficulty = [1.0] * n
        else:
            before = means[t - 3]
            beta = increase_rate * (t - 1)
            ratio = overall[-1] / overall[-2]
            difficulty = [(mean[i] / before[i] / ratio) ** beta for i in range(n)]
        alpha = 1 / sum(difficulty[i] * priorities[i] for i in range(n))
        weights.append(
            [alpha * difficulty[i] * priorities[i] * overall[-1] / mean[i] for i in range(n)]
        )
    return weights


loss = st.floats(1e-4, 1e2)
histories = st.lists(st.tuples(loss, loss, loss).map(list), min_size=1, max_size=8)
positive = st.floats(0.05, 1)
simplex = st.tuples(positive, positive, positive).map(lambda p: tuple(x / sum(p) for x in p))


@settings(max_examples=40)
@given(simplex, histories, st.floats(0, 0.5))
def test_log_space_equals_the_printed_equations(
    priorities: tuple[float, ...], means: list[list[float]], increase_rate: float
) -> None:
    weighting = lsb(priorities, increase_rate)
    got = feed(weighting, means)
    expected = reference_weights(weighting.priorities.tolist(), means, increase_rate)
    for g, e in zip(got, expected, strict=True):
        assert g.tolist() == pytest.approx(e, rel=1e-9)


@settings(max_examples=40)
@given(simplex, histories, st.integers(0, 2), st.floats(1e-3, 1e3))
def test_unit_of_a_loss_does_not_change_the_shares(
    priorities: tuple[float, ...], means: list[list[float]], task: int, unit: float
) -> None:
    scaled = [[m * (unit if i == task else 1) for i, m in enumerate(mean)] for mean in means]

    def shares(history: list[list[float]]) -> list[Tensor]:
        out = []
        weights = feed(lsb(priorities), history)
        for weight, mean in zip(weights[1:], history, strict=True):  # t >= 2
            scales = weight * torch.tensor(mean, dtype=torch.float64)
            out.append(scales / scales.sum())
        return out

    for one, other in zip(shares(means), shares(scaled), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=0)


@settings(max_examples=40)
@given(simplex, histories)
def test_without_beta_loss_scales_are_as_the_priorities(
    priorities: tuple[float, ...], means: list[list[float]]
) -> None:
    weighting = lsb(priorities, increase_rate=0.0)
    weights = feed(weighting, means)
    for weight, before, mean in zip(weights[1:], weights, means, strict=False):
        last = torch.tensor(mean, dtype=torch.float64)
        shares = weight * last / (before @ last)  # of L^{t-1}, which is kept
        torch.testing.assert_close(shares, weighting.priorities, rtol=1e-9, atol=0)


@pytest.mark.parametrize(("epochs", "beta"), [(1.0, 1.2), (0.5, 0.6)])
def test_beta_is_the_rate_times_the_epochs_elapsed(epochs: float, beta: float) -> None:
    # Period 5 begins after 4 periods: beta = 0.3 * 4 epochs. The second task's ratio is 2, the
    # others' 1, so D_2 / D_1 = 2 ** beta.
    weighting, seen = lsb(increase_rate=0.3), []
    for mean in ([1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 2, 1]):
        seen.append(weighting.difficulties is not None)
        weighting(torch.tensor(mean, dtype=torch.float64))
        weighting.end_period(epochs=epochs)
    assert seen == [False, False, True, True]  # the third period is the first with difficulties
    difficulties = weighting.difficulties
    assert difficulties is not None
    assert (difficulties[1] / difficulties[0]).item() == pytest.approx(2**beta)


def test_huge_beta_does_not_overflow() -> None:
    # beta = 100 * 2, ratios 1e-6 and 1e6: 1e1200 in linear space.
    weighting = lsb(increase_rate=100.0)
    weights = feed(weighting, [[1.0, 1.0, 1.0], [1e-6, 1.0, 1e6]])
    assert weights[-1].isfinite().all()
    assert (weights[-1] @ torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64)).isfinite()


def test_period_mean_is_over_its_steps_in_float64() -> None:
    weighting = lsb()
    for _ in range(2_000):
        weighting(torch.tensor([1e-8, 0.1, 1.0]))  # float32, as in training
    means = weighting.period_means()
    # float32 values of 1e-8 and 0.1; a float32 sum would be off by 1e-5.
    assert means[0] == pytest.approx(float(torch.tensor(1e-8)), rel=1e-10)
    assert means[1] == pytest.approx(float(torch.tensor(0.1)), rel=1e-10)


def test_negative_loss_is_named() -> None:
    weighting = lsb()
    weighting(torch.tensor([1.0, 1.0, -0.5]))
    with pytest.raises(ValueError, match="positive loss of task 'segmentation'"):
        weighting.end_period()


def test_task_never_seen_keeps_its_priority_as_weight() -> None:
    weighting = lsb((0.2, 0.3, 0.5))
    present = torch.tensor([True, False, True])
    losses = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    for _ in range(12):
        weighting(losses, present)
        weighting.end_period()
        assert weighting.weights[1].item() == pytest.approx(0.3)
        # The others keep their overall loss, 0.2 * 1 + 0.5 * 2 = 1.2, period after period, and
        # share it 0.2 to 0.5.
        assert (weighting.weights * losses).sum().item() == pytest.approx(1.2)
        assert weighting.weights[0].item() == pytest.approx(1.2 * 0.2 / 0.7)


def test_clamp_binds_each_weight_by_itself() -> None:
    # w = (1/3, 1/3, 1/3), l = (1, 2, 9): L = 4, pi L / l = (4/3, 2/3, 4/27).
    # Factors 4, 2 and 4/9; clamped to [1/3, 3]: 3, 2 and 4/9.
    weights = feed(lsb(clamp=3.0), [[1.0, 2.0, 9.0]])[-1]
    assert weights.tolist() == pytest.approx([1.0, 2 / 3, 4 / 27])
    # Clamped to [1/2, 2]: 2, 2 and 1/2. The next L is with the clamped weights:
    # w = (2/3, 2/3, 1/6), L = 2/3 + 4/3 + 3/2 = 3.5, pi L / l = (7/6, 7/12, 7/54), factors 7/4,
    # 7/8 and 7/9: the equations' own weights again (all loss ratios are 1).
    weights = feed(lsb(clamp=2.0), [[1.0, 2.0, 9.0], [1.0, 2.0, 9.0]])
    assert weights[1].tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 6])
    assert weights[2].tolist() == pytest.approx([7 / 6, 7 / 12, 7 / 54])


@settings(max_examples=40)
@given(simplex, histories, st.floats(0, 0.5), st.floats(1, 4))
def test_no_weight_changes_by_more_than_the_clamp(
    priorities: tuple[float, ...], means: list[list[float]], rate: float, clamp: float
) -> None:
    weighting = lsb(priorities, rate, clamp)
    clamp = weighting.clamp  # of 12 digits
    weights = feed(weighting, means)
    for before, after in zip(weights, weights[1:], strict=False):
        ratio = after / before
        assert (ratio <= clamp * (1 + 1e-12)).all()
        assert (ratio >= (1 - 1e-12) / clamp).all()


@settings(max_examples=40)
@given(simplex, histories)
def test_clamp_that_never_binds_changes_nothing(
    priorities: tuple[float, ...], means: list[list[float]]
) -> None:
    for free, clamped in zip(
        feed(lsb(priorities), means), feed(lsb(priorities, clamp=1e30), means), strict=True
    ):
        assert torch.equal(free, clamped)


@given(means=st.lists(st.lists(loss, min_size=3, max_size=3), max_size=4))
@settings(max_examples=30)
def test_changed_priorities_are_those_of_the_whole_training_up_to_a_common_factor(
    means: list[list[float]],
) -> None:
    # The shares in the overall loss follow from losses and priorities alone.
    after = (0.6, 0.3, 0.1)
    changed, always = lsb((0.2, 0.3, 0.5), 0.5), lsb(after, 0.5)
    feed(changed, means)
    feed(always, means)
    changed.set_priorities(after)
    for _ in range(2):
        torch.testing.assert_close(
            changed.weights / changed.weights.sum(), always.weights / always.weights.sum()
        )
        ours, theirs = changed.difficulties, always.difficulties
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs)
        feed(changed, [[0.5, 1.0, 2.0]])
        feed(always, [[0.5, 1.0, 2.0]])
