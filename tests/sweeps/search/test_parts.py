"""The parts of a search, by hand: stick-breaking, rungs, subsets, budgets, decisions."""

import numpy as np
import pytest

from mtl.errors import StoreError
from mtl.spec import check_priorities
from sweeps.search.decisions import DecisionLog
from sweeps.search.engine import best_subset, ranked
from sweeps.search.options import (
    MIN_PRIORITY,
    num_promoted,
    priorities_of,
    rung_epochs,
    tuning_points,
    units_of,
)


def test_stick_breaking_by_hand():
    # Two tasks: the first one's share of the free part is the unit itself.
    assert priorities_of([0.5]) == (0.5, 0.5)
    assert priorities_of([0.0]) == (0.02, 0.98)
    assert priorities_of([1.0]) == (0.98, 0.02)
    # Three: 1 - (1 - 0.75)^(1/2) = 0.5, then half of the rest; the free part is 0.94.
    assert priorities_of([0.75, 0.5]) == pytest.approx((0.02 + 0.47, 0.02 + 0.235, 0.02 + 0.235))


@pytest.mark.parametrize("num_tasks", [2, 3, 5])
def test_stick_breaking_is_uniform_and_invertible(num_tasks):
    seed = 3
    print(f"seed {seed}")
    units = np.random.default_rng(seed).random((20_000, num_tasks - 1))
    points = np.array([priorities_of(list(u)) for u in units])
    assert points.min() >= MIN_PRIORITY - 1e-12
    free = (points - MIN_PRIORITY) / (1 - num_tasks * MIN_PRIORITY)
    # Dirichlet(1, ..., 1): every coordinate has mean 1/K and variance (K - 1) / (K^2 (K + 1)).
    assert free.mean(axis=0) == pytest.approx(1 / num_tasks, abs=0.01)
    variance = (num_tasks - 1) / (num_tasks**2 * (num_tasks + 1))
    assert free.var(axis=0) == pytest.approx(variance, rel=0.06)
    tasks = ("depth", "normal", "segmentation", "edge2d", "edge3d")[:num_tasks]
    for point, unit in zip(points[:50], units[:50], strict=True):
        assert units_of(tuple(point)) == pytest.approx(unit, abs=1e-9)
        check_priorities(list(point), tasks)


@pytest.mark.parametrize("num_tasks", [2, 3, 9])
def test_tuning_gives_each_task_twice_the_priority_of_the_rest(num_tasks):
    points = tuning_points(num_tasks)
    assert len(points) == num_tasks
    for task, point in enumerate(points):
        assert point[task] == pytest.approx(2 / (num_tasks + 1))
        assert max(p for i, p in enumerate(point) if i != task) == pytest.approx(
            1 / (num_tasks + 1)
        )
        assert priorities_of(units_of(point)) == pytest.approx(point)


def test_candidates_are_ranked_by_dominance_then_hypervolume():
    def both(x, y):
        return np.array([[x, y], [x, y]], dtype=float)

    # 2 dominates all; 0 and 1 trade off and 3 is dominated by 0. The reference is (4.3, 5.4):
    # 0 covers 3.3 x 0.4 = 1.32 and 1 covers 0.3 x 2.4 = 0.72.
    points = {0: both(1, 5), 1: both(4, 3), 2: both(1, 1), 3: both(2, 5)}
    assert ranked(points) == [2, 0, 1, 3]
    assert ranked({}) == []
    # Equal in all: the earlier first.
    assert ranked({5: both(1, 1), 4: both(1, 1)}) == [4, 5]


def test_best_subset_covers_the_most():
    # The reference is (11, 11). Alone, (5, 5) covers 36, (0, 10) and (10, 0) cover 11, and (6, 6)
    # covers 25; after (5, 5) each end adds 5 and (6, 6) adds nothing.
    points = {0: (0, 10), 1: (6, 6), 2: (5, 5), 3: (10, 0)}
    assert best_subset(points, 1) == [2]
    assert best_subset(points, 3) == [2, 0, 3]
    assert best_subset(points, 9) == [2, 0, 3, 1]
    assert best_subset({}, 3) == []


def test_rungs_and_budgets_by_hand(played):
    assert rung_epochs(16) == (2, 4)
    assert rung_epochs(3) == (1,)
    assert [num_promoted(n) for n in (5, 4, 1)] == [3, 2, 1]
    # 4 candidates at 2 priorities: 8 runs to epoch 2, then 4 of them 2 more: 16 + 8 = 24.
    # 6 + 3 full runs of 16 epochs, of which 2 have 4 epochs already: 24 + 144 - 8 = 160.
    budget = played.options(candidates=4, trials=6, points=3, seeds=2, population=4)
    assert (budget.tuning_epochs, budget.num_epochs) == (24, 160)
    assert (budget.num_runs, budget.num_full_runs) == (8 + 9 - 2, 9)
    # Generations of 4: one of candidates, the second rung, two of trials, one of other seeds.
    assert budget.num_batches == 1 + 1 + 2 + 1
    plain = played.options(candidates=1, trials=6, points=3, seeds=1, population=6)
    assert (plain.num_runs, plain.num_epochs, plain.num_batches) == (6, 96, 1)


def test_decision_is_made_once(tmp_path):
    path = tmp_path / "decisions.jsonl"
    log = DecisionLog(path)
    assert log.decide("tuned", "lsb", make=lambda: {"candidate": 2})["candidate"] == 2
    assert log.decide("tuned", "lsb", make=lambda: pytest.fail("again"))["candidate"] == 2
    assert log.get("tuned", "fixed") is None
    data = path.read_bytes()
    path.write_bytes(data + b'{"schema": 1, "dec')
    torn = DecisionLog(path)
    assert path.read_bytes() != data, "reading changes nothing"
    torn.decide("tuned", "fixed", make=lambda: {"candidate": 0})
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines[0] == data
    assert len(lines) == 2


@pytest.mark.parametrize(
    "line", [b"x\n", b'{"schema": 2, "decision": "tuned", "method": "a"}\n', b"[]\n", b"{}\n"]
)
def test_damaged_log_is_refused(tmp_path, line):
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(line)
    with pytest.raises(StoreError, match="another --name"):
        DecisionLog(path)
