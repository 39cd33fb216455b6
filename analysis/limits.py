"""What a report cannot show, in generated words: what is missing, and how far the runs reach."""

from collections.abc import Mapping
from typing import Any

from analysis.findings import Findings
from analysis.words import first_listed, listed

MOST_NAMED = 4
"""Methods or priorities that a sentence names; it counts the rest."""
MOST_SENTENCES = 6
"""Sentences of one kind; a last one counts the rest."""
DATA_LIMITS: Mapping[tuple[str, str], str] = {
    ("scenes", "simple"): "The simple variant of the scenes is built to show a trade-off between "
    "tasks within minutes. This is a demonstration, and no evidence about real data.",
    ("scenes", "rooms"): "The rooms are rendered: whether the same holds for photographs is not "
    "shown here.",
}
_OF_STORES = "data.name"
"""A field that the runs of every store have, and those of no table."""


def limits(findings: Findings) -> tuple[str, ...]:
    """Return what the runs cannot show, one sentence or two each; see `analysis.verdict`."""
    if not findings.points:
        return tuple(_incomplete(findings))
    return (
        *_data_limit(findings.provenance.common),
        *_incomplete(findings),
        *_without_result(findings),
        *_few_seeds(findings),
        *_reach(findings),
    )


def _data_limit(common: Mapping[str, Any]) -> list[str]:
    key = (str(common.get("data.name")), str(common.get("data.variant")))
    return [DATA_LIMITS[key]] if key in DATA_LIMITS else []


def _incomplete(findings: Findings) -> list[str]:
    counts = findings.counts
    rest = [f"{number} {state}" for state, number in counts.items() if state != "done"]
    if not rest:
        return []
    missing = sum(number for state, number in counts.items() if state != "done")
    return [
        f"{missing} of {len(findings.states)} runs are not in these figures: {listed(rest)} "
        "(reasons below)."
    ]


def _without_result(findings: Findings) -> list[str]:
    """Say at which priorities, and with which seeds, a method lacks results that others have."""
    if findings.searched:
        return []  # each method has points of its own
    held: dict[str, dict[tuple[float, ...], frozenset[int]]] = {}
    for point in findings.points:
        if point.priorities is not None:
            held.setdefault(point.arm, {})[point.priorities] = frozenset(point.seeds)
    grid: dict[tuple[float, ...], frozenset[int]] = {}
    for settings in held.values():
        for setting, seeds in settings.items():
            grid[setting] = grid.get(setting, frozenset()) | seeds
    sentences = []
    for arm, settings in held.items():
        absent = [findings.shown_priorities(s) for s in sorted(grid) if s not in settings]
        parts = [f"at {first_listed(absent, MOST_NAMED)}"] if absent else []
        at_seeds: dict[frozenset[int], list[str]] = {}
        for setting in sorted(settings):
            lacking = grid[setting] - settings[setting]
            if lacking:
                at_seeds.setdefault(lacking, []).append(findings.shown_priorities(setting))
        for lacking, texts in at_seeds.items():
            named = first_listed([str(seed) for seed in sorted(lacking)], MOST_NAMED)
            noun = "seed" if len(lacking) == 1 else "seeds"
            parts.append(f"with {noun} {named} at {first_listed(texts, MOST_NAMED)}")
        if parts:
            sentences.append(f"{arm} has no result {'; nor '.join(parts[:MOST_NAMED])}.")
    left = len(sentences) - MOST_SENTENCES
    if left > 0:
        sentences[MOST_SENTENCES:] = [f"Of {left} more methods the table of runs shows the gaps."]
    return sentences


def _few_seeds(findings: Findings) -> list[str]:
    seeds = sorted({point.n for point in findings.points})
    if seeds == [1]:
        return ["One seed a setting: nothing here tells a method from its luck."]
    if seeds[0] < 5:
        counts = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        return [f"Means over {counts} seeds: the standard deviations shown are rough."]
    return []


def _reach(findings: Findings) -> list[str]:
    if findings.searched:
        return [
            "One data set and one network: how the methods rank elsewhere stays open. Points that "
            "were chosen by their outcome flatter every method; for a comparison take a grid."
        ]
    common = findings.provenance.common
    if _OF_STORES in common:
        return [
            "One data set, one network and one setting of the optimiser for all methods: how they "
            "rank elsewhere, or each with its own tuned learning rate, stays open."
        ]
    unsaid = [
        *([] if "dataset" in common else ["data set"]),
        *([] if {"architecture", "encoder"} & set(common) else ["network"]),
        "setting of the optimiser",
    ]
    return [
        f"The table does not say which {listed(unsaid)} the runs had, nor whether all methods had "
        "the same: what a difference is due to, and how the methods rank elsewhere, stays open."
    ]
