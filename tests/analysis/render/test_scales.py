"""Ticks of logarithmic axes, narrow and wide."""

import math

import pytest

from analysis.render.scales import log_ticks


@pytest.mark.parametrize(
    ("low", "high"), [(0.96, 1.04), (0.06, 1.4), (1e-7, 3.0), (0.5, 2.0), (1.0, 1.0001), (1e-90, 1)]
)
def test_every_logarithmic_axis_has_a_few_ticks(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 10, ticks
    assert all(low <= value <= high for value, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)
    assert all(math.isclose(float(text), value, rel_tol=1e-6) for value, text in ticks)
