"""Which methods are set side by side, and in which order: the paper's comparison leads."""

import itertools
from collections.abc import Sequence

from analysis.findings import Findings

PAPER_PAIR = ("lsb", "fixed")
"""The comparison that the paper makes; it leads wherever methods are set side by side."""


def method_of(findings: Findings) -> dict[str, str]:
    """Return arm -> method, of all arms with usable runs."""
    if findings.runs.empty:
        return {}
    return dict(zip(findings.runs["arm"], findings.runs["method"], strict=True))


def steered_arms(findings: Findings) -> tuple[str, ...]:
    """Return the arms with two priorities or more: those of `PAPER_PAIR` first, then by plan."""
    counts = dict.fromkeys(findings.arms, 0)
    for point in findings.points:
        counts[point.arm] += point.priorities is not None
    steered = [arm for arm, count in counts.items() if count > 1]
    methods = method_of(findings)
    first = [arm for method in PAPER_PAIR for arm in steered if methods[arm] == method]
    return tuple(dict.fromkeys([*first, *steered]))


def every_pair(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Return all pairs of arms: first the paper's, where both are there, then in their order."""
    pairs = list(itertools.combinations(arms, 2))
    if all(arm in arms for arm in PAPER_PAIR):
        return [PAPER_PAIR, *(pair for pair in pairs if set(pair) != set(PAPER_PAIR))]
    return pairs


def paper_pairs(findings: Findings, arms: Sequence[str]) -> list[tuple[str, str]]:
    """Return only the pairs of arms of the paper's two methods; every pair where there is none."""
    methods = method_of(findings)
    first, second = ([arm for arm in arms if methods[arm] == name] for name in PAPER_PAIR)
    return list(itertools.product(first, second)) or every_pair(arms)
