"""The reader's choice: sliders for what matters, the network to take, and how to run it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.choice import STEPS, SUM_SHARE, UNIT, Choice, Offers, choose, knee, offers
from analysis.compute.findings import Findings
from analysis.compute.fronts import OperatingPoint
from analysis.load.axes import Axis, shown_number
from analysis.load.matched import Key, by_point, ids_by_point
from analysis.load.run_files import RunFiles
from analysis.load.runs import SPLIT, VALIDATION
from analysis.render.panels import mark_of
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Table
from analysis.sections.overview_tables import mean_cells, point_values

MOST_CHECKED = 3000
"""Runs whose network is looked for; whether more are there is told by the command itself."""
HALF = STEPS // 2


@dataclass(frozen=True)
class NamedChoice:
    """What is chosen for one wish."""

    wish: str
    weights: tuple[int, ...]
    choice: Choice
    point: OperatingPoint
    run_id: str


def picker(findings: Findings, files: RunFiles) -> Section | None:
    """Return the section in which the reader chooses; None without operating points."""
    axes = findings.axes
    if not findings.points or not axes:
        return None
    tasks = [axis.task for axis in axes]
    split, columns = _judged_by(findings.runs, axes)
    held = offers(by_point(findings.runs, tasks, columns), axes, findings.arms)
    by_key = {(point.arm, point.priorities): point for point in findings.points}
    points = [by_key[(offer.arm, offer.priorities)] for offer in held.points]
    ids = ids_by_point(findings.runs, tasks)
    runs = _networks(held, ids, files)
    named = _named(held, axes, points, ids)
    knee_index = knee(held.means)
    knee_share = None
    if knee_index is not None and len(held.resamples):
        knee_share = float(np.mean([knee(losses) == knee_index for losses in held.resamples]))
    return Section(
        "picker",
        "Choose a network",
        _lead(findings, named[0], held),
        tuple(_parts(findings, held, points, named, (knee_index, knee_share), split, files)),
        {
            "judged_by": split,
            "num_offered": len(held.points),
            "num_points": held.num_all,
            "best": held.best,
            "worst": held.worst,
            "choices": named,
            "knee": None if knee_index is None else points[knee_index],
            "knee_share": knee_share,
        },
        template="picker.html.j2",
        data=_data(findings, held, points, runs, split, knee_index, bool(files.stores)),
    )


def _judged_by(runs: pd.DataFrame, axes: Sequence[Axis]) -> tuple[str, list[str]]:
    """Return the split by which points are chosen, and its columns."""
    columns = [f"{VALIDATION}_{axis.column}" for axis in axes]
    if all(c in runs and np.isfinite(runs[c].astype(float)).all() for c in columns):
        return VALIDATION, columns
    return SPLIT, [axis.column for axis in axes]


def _networks(
    held: Offers, ids: Mapping[Key, Mapping[int, str]], files: RunFiles
) -> list[list[str]]:
    """Return for each point its runs by seed; "" where the store holds no network of a run."""
    runs = [[ids[(o.arm, o.priorities)][seed] for seed in o.seeds] for o in held.points]
    # Object storage is asked too slowly.
    is_known = all(store.is_local for store in files.stores)
    if not files.stores or not is_known or sum(map(len, runs)) > MOST_CHECKED:
        return runs
    return [
        [run if any(store.has_checkpoint(run) for store in files.stores) else "" for run in of]
        for of in runs
    ]


def _named(
    held: Offers,
    axes: Sequence[Axis],
    points: Sequence[OperatingPoint],
    ids: Mapping[Key, Mapping[int, str]],
) -> list[NamedChoice]:
    none = [0] * len(axes)
    wishes = [("all alike", [HALF] * len(axes))]
    wishes += [
        (f"only {axis.name}", [STEPS if i == k else 0 for i in range(len(axes))])
        for k, axis in enumerate(axes)
    ]
    wishes += [
        (
            f"{axis.name} twice as much as the rest",
            [STEPS if i == k else HALF for i in range(len(axes))],
        )
        for k, axis in enumerate(axes)
        if len(axes) > 1
    ]
    found = []
    for wish, weights in wishes if len(axes) > 1 else wishes[:1]:
        choice = choose(held, weights, none)
        point = points[choice.index]
        run_id = ids[(point.arm, point.priorities)][choice.seed]
        found.append(NamedChoice(wish, tuple(weights), choice, point, run_id))
    return found


def _lead(findings: Findings, alike: NamedChoice, held: Offers) -> str:
    where = findings.shown_priorities(alike.point.priorities, empty="")
    at = f" at priorities {where}" if where else ""
    sure = alike.choice.sureness
    if alike.choice.num_equal > 1:
        return (
            f"If all metrics matter alike, {alike.choice.num_equal} points are equally good; "
            f"{alike.point.arm}{at} is the first of them. Say below what matters to you, and take "
            "the network along."
        )
    how = (
        "with one seed nothing says how sure that is"
        if sure is None
        else f"{sure:.0%} of {len(held.draws)} resamples of the seeds agree"
    )
    return (
        f"If all metrics matter alike, the choice is {alike.point.arm}{at}; {how}. "
        "Say below what matters to you, and take the network along."
    )


def _parts(
    findings: Findings,
    held: Offers,
    points: Sequence[OperatingPoint],
    named: Sequence[NamedChoice],
    found_knee: tuple[int | None, float | None],
    split: str,
    files: RunFiles,
) -> list[Part | Folded]:
    parts: list[Part | Folded] = [_knee_words(findings, points, *found_knee)]
    if split == VALIDATION:
        parts.append(
            "The choice is made on the validation split and the values shown are of the test "
            "split, so they are not flattered by the choice. It finds a network to use; it is no "
            "comparison of methods."
        )
    else:
        parts.append(
            "Not all of these results hold validation values, so the choice is made on the test "
            "values that are shown: good enough to find a network to use, but the chosen values "
            "are somewhat lucky, and this is no comparison of methods."
        )
    if len(held.points) < held.num_all:
        parts.append(
            f"{len(held.points)} of {held.num_all} operating points are offered, those that are "
            "beaten by none first; the CSV of the operating points holds all."
        )
    counts = {len(offer.seeds) for offer in held.points}
    if counts == {1}:
        parts.append("One seed at each point: how sure a choice is cannot be said.")
    elif len(counts) > 1:
        parts.append(
            f"The points rest on {min(counts)} to {max(counts)} seeds; how sure a choice is, is "
            "overstated where they are few."
        )
    elif counts == {2}:
        parts.append(
            "With two seeds these shares are rather too high: in a simulation they were 75 % in "
            "the mean, and 61 % of the choices were the true ones."
        )
    constant = [
        axis for axis, b, w in zip(findings.axes, held.best, held.worst, strict=True) if b == w
    ]
    parts += [f"{axis.name} is the same at every point and has no say." for axis in constant]
    if not files.stores:
        parts.append("These results come from a table, so there is no network to run.")
    elif len(files.stores) > 1:
        parts.append(
            f"The runs come from {len(files.stores)} stores; in the command STORE is the one that "
            "holds the run."
        )
    parts.append(
        Folded(
            "Choices for some wishes, and every point offered",
            (_wish_table(findings, named), _point_table(findings, held, points, split)),
        )
    )
    return parts


def _knee_words(
    findings: Findings, points: Sequence[OperatingPoint], index: int | None, share: float | None
) -> str:
    if index is None:
        return (
            "There is no knee point: fewer than three different points are undominated, or they "
            "do not bend towards better."
        )
    point = points[index]
    where = findings.shown_priorities(point.priorities, empty="")
    if len(findings.axes) == 2:
        why = "it lies farthest from the line through the two ends of the front"
    else:
        why = "any other undominated point loses most for what it gains"
    agree = (
        "" if share is None else f" It is the knee in {share:.0%} of the resamples of the seeds."
    )
    return f"Knee point: {' '.join((point.arm, where)).strip()}; {why}.{agree}"


def _wish_table(findings: Findings, named: Sequence[NamedChoice]) -> Table:
    axes = findings.axes
    rows, raw = [], []
    for one in named:
        sure, equal = one.choice.sureness, one.choice.num_equal
        rows.append(
            (
                one.wish,
                one.point.arm,
                findings.shown_priorities(one.point.priorities),
                *mean_cells(one.point, axes),
                shown_number(sure, ".0%") if equal == 1 else f"{equal} points equally good",
            )
        )
        values: dict[str, Any] = {"wish": one.wish, "method": one.point.arm}
        values |= point_values(one.point, axes)
        values |= {
            "share_of_resamples": sure,
            "num_equally_good": equal,
            "middle_seed": one.choice.seed,
            "run_id": one.run_id,
        }
        raw.append(values)
    return Table(
        "picker_choices",
        "What is chosen when only so much is said: test mean ± standard deviation over seeds, and "
        "the share of resamples of the seeds that choose the same.",
        (
            "what matters",
            "method",
            f"priorities ({', '.join(axis.task for axis in axes)})",
            *(axis.title for axis in axes),
            "how sure",
        ),
        tuple(rows),
        pd.DataFrame(raw),
        num_words=3,
    )


def _point_table(
    findings: Findings, held: Offers, points: Sequence[OperatingPoint], split: str
) -> Table:
    axes = findings.axes
    rows, raw = [], []
    for offer, point in zip(held.points, points, strict=True):
        losses = offer.mean / UNIT
        rows.append(
            (
                point.arm,
                findings.shown_priorities(point.priorities),
                *mean_cells(point, axes),
                *(f"{loss:.2f}" for loss in losses),
            )
        )
        values: dict[str, Any] = {"method": point.arm, **point_values(point, axes)}
        values |= {f"{axis.column}_loss": x for axis, x in zip(axes, losses, strict=True)}
        raw.append(values)
    return Table(
        "picker_points",
        f"Points offered: test mean ± standard deviation over seeds, and the loss by which they "
        f"are chosen: 0 at the best and 1 at the worst mean of the {split} split.",
        (
            "method",
            f"priorities ({', '.join(axis.task for axis in axes)})",
            *(axis.title for axis in axes),
            *(f"loss of {axis.name}" for axis in axes),
        ),
        tuple(rows),
        pd.DataFrame(raw),
        num_words=2,
    )


def _data(
    findings: Findings,
    held: Offers,
    points: Sequence[OperatingPoint],
    runs: Sequence[Sequence[str]],
    split: str,
    knee_index: int | None,
    from_store: bool,
) -> dict[str, Any]:
    """Return what the page's script and template need; all texts are plain."""
    axes = findings.axes
    return {
        "unit": UNIT,
        "steps": STEPS,
        "half": HALF,
        "sum_share": SUM_SHARE,
        "split": split,
        "reported": SPLIT,
        "from_store": from_store,
        "knee": knee_index,
        "tasks": ", ".join(axis.task for axis in axes),
        "axes": [
            {
                "name": f"{axis.name}",
                "unit": axis.unit,
                "gap_unit": axis.difference_unit,
                "better": axis.better,
                "factor": axis.metric.display_factor,
                "decimals": axis.metric.decimals,
                "best": best,
                "worst": worst,
                "best_text": axis.shown(best),
                "worst_text": axis.shown(worst),
            }
            for axis, best, worst in zip(axes, held.best, held.worst, strict=True)
        ],
        "seeds": list(held.seeds),
        "draws": held.draws.tolist(),
        "points": [
            {
                "arm": point.arm,
                "colour": mark_of(findings.arms.index(point.arm)).colour_number,
                "priorities": findings.shown_priorities(point.priorities, empty=""),
                "seeds": list(offer.seeds),
                "losses": offer.losses.tolist(),
                # A narrow page breaks before the sign, not behind it.
                "shown": [
                    text.replace("± ", "±\N{NO-BREAK SPACE}") for text in mean_cells(point, axes)
                ],
                "runs": list(of),
            }
            for offer, point, of in zip(held.points, points, runs, strict=True)
        ],
    }
