"""The reader's choice: sliders for what matters, the network to take, and how to run it."""

from collections.abc import Sequence
from typing import Any

from analysis.compute.choice import (
    NUM_RESAMPLES,
    SUM_SHARE,
    Candidates,
    Choice,
    candidates,
    choice_at_equal_weights,
    knee,
)
from analysis.compute.findings import Findings
from analysis.compute.fronts import OperatingPoint
from analysis.load.matched import Key, by_point, ids_by_point, validation_columns
from analysis.load.run_files import RunFiles
from analysis.load.runs import SPLIT, VALIDATION
from analysis.render.figure_parts import mean_text, style_of
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Column, Table
from analysis.sections.overview_tables import point_columns, point_record

STEPS = 100
"""Positions of a slider, from 0."""


def picker(findings: Findings, files: RunFiles, reported: str = SPLIT) -> Section | None:
    """Return the section in which the reader chooses; None without operating points.

    `reported` is the split of the values shown: of validation alone, as while a sweep runs, that is
    the split of `findings`.
    """
    axes = findings.axes
    if not findings.points or not axes:
        return None
    tasks = [axis.task for axis in axes]
    networks = findings.networks
    split, columns = VALIDATION, validation_columns(networks, axes)
    if reported == VALIDATION or not columns:
        split, columns = reported, [axis.column for axis in axes]
    held = candidates(by_point(networks, tasks, columns), axes, findings.arms)
    by_key: dict[Key, OperatingPoint] = {
        (p.arm, p.priorities): p for p in (*findings.points, *findings.mixed_points)
    }
    points = [by_key[key] for key in held.keys]
    choice, knee_index = choice_at_equal_weights(held), knee(held.losses)
    default, knee_point = points[choice.index], None if knee_index is None else points[knee_index]
    parts: tuple[Part | Folded, ...] = (
        _knee_text(findings, knee_point),
        *_caveats(findings, held, (split, reported), files),
        Folded(
            "Every point that can be chosen", (_table(findings, held, points, (split, reported)),)
        ),
    )
    sure = _sure_text(choice)
    data_of_points = _points_data(findings, held, points, files)
    shown = data_of_points[held.offered.tolist().index(choice.index)]
    values = {
        "network": {
            "run_id": shown["run"] or None,
            "method": default.arm,
            "priorities": default.priorities,
            "seed": shown["seed"],
            "metrics": {
                axis.column: m for axis, m in zip(findings.axes, default.means, strict=True)
            },
        },
        "judged_by": split,
        "num_offered": len(held.offered),
        "num_points": len(points),
        "best": held.best,
        "worst": held.worst,
        "default": default,
        "num_equally_good": choice.num_equal,
        "share_of_resamples": choice.sureness,
        "knee": knee_point,
    }
    data = {
        **_axes_data(findings, held, (split, reported)),
        "points": data_of_points,
        "knee": None if knee_index is None else held.offered.tolist().index(knee_index),
        "sure": f"{sure[0].upper()}{sure[1:]}",
        "from_store": bool(files.stores),
    }
    lead = (
        f"If all metrics matter alike, take {_name(findings, default)}: {sure} Say below what "
        "matters to you, and get the network."
    )
    template = "picker.html.j2"
    return Section("picker", "Choose a network", lead, parts, values, template, data)


def _name(findings: Findings, point: OperatingPoint) -> str:
    where = findings.shown_priorities(point.priorities, empty="")
    return f"{point.arm} at priorities {where}" if where else point.arm


def _sure_text(choice: Choice) -> str:
    if choice.num_equal > 1:
        return f"{choice.num_equal} points are equally good, and this is the first of them."
    if choice.sureness is None:
        return "with one seed nothing says how sure this choice is."
    return f"{choice.sureness:.0%} of {NUM_RESAMPLES} resamples of the seeds choose the same point."


def _knee_text(findings: Findings, point: OperatingPoint | None) -> str:
    if point is None:
        return (
            "There is no knee point: fewer than three different points are nondominated, or they "
            "do not bend towards better."
        )
    if len(findings.axes) == 2:
        why = "it lies farthest from the line through the two ends of the front"
    else:
        why = "any other nondominated point loses most for what it gains"
    return f"Knee point: {_name(findings, point)}; {why}."


def _caveats(
    findings: Findings, held: Candidates, splits: tuple[str, str], files: RunFiles
) -> list[str]:
    split, reported = splits
    how = (
        "The choice is made on the validation split; the values shown are of the test split and "
        "not biased by the choice."
    )
    if reported == VALIDATION:
        how = (
            "Choice and values are of the validation split, so the chosen ones look a little "
            "better than they are; the report has those of the test split."
        )
    elif split != VALIDATION:
        how = (
            "Not all of these results hold validation values, so the choice is made on the test "
            "values that are shown, and the chosen ones look better than they are."
        )
    caveats = [
        f"{how} {len(held.offered)} of {len(held.keys)} operating points can be chosen; the others "
        "are dominated there. This finds a network to use; it is no comparison of methods."
    ]
    if findings.mixed_points:
        caveats.append(
            "Points called mixed are networks between two forks: their weights are a mean of the "
            "forks', and they were measured as all others, but not trained."
        )
    counts = {point.n for point in (*findings.points, *findings.mixed_points)}
    if counts == {2}:
        caveats.append(
            "With two seeds the share of agreeing resamples is rather too high: in a simulation it "
            "was 75 % on average, and 61 % of the choices were the true ones."
        )
    elif len(counts) > 1:
        caveats.append(
            f"The points rest on {min(counts)} to {max(counts)} seeds; the share of agreeing "
            "resamples is too high where they are few."
        )
    caveats += [
        f"{axis.name} is the same at every point and decides nothing."
        for axis, best, worst in zip(findings.axes, held.best, held.worst, strict=True)
        if best == worst
    ]
    if not files.stores:
        caveats.append("These results come from a table, so there is no network to run.")
    elif len(files.stores) > 1:
        caveats.append("In the command STORE is the one that holds the run.")
    return caveats


def _table(
    findings: Findings,
    held: Candidates,
    points: Sequence[OperatingPoint],
    splits: tuple[str, str],
) -> Table:
    split, reported = splits
    names = [f"{axis.column}_loss" for axis in findings.axes]
    records = [
        point_record(points[index], findings.axes)
        | dict(zip(names, held.losses[index].tolist(), strict=True))
        for index in held.offered
    ]
    losses = zip(names, findings.axes, strict=True)
    return Table.of(
        "picker_points",
        f"Points that can be chosen: {reported} mean ± standard deviation over seeds, and the loss "
        "by "
        f"which they are chosen: 0 at the best and 1 at the worst mean of the {split} split.",
        records,
        [
            *point_columns(findings),
            Column("num_seeds"),
            *(Column(name, f"loss of {axis.name}", ".2f") for name, axis in losses),
        ],
        num_words=2,
    )


def _axes_data(findings: Findings, held: Candidates, splits: tuple[str, str]) -> dict[str, Any]:
    """Return what the page's script and template need of the axes; all texts are plain."""
    split, reported = splits
    axes = findings.axes
    return {
        "steps": STEPS,
        "sum_share": SUM_SHARE,
        "split": split,
        "reported": reported,
        "tasks": ", ".join(axis.task for axis in axes),
        "axes": [
            {
                "name": axis.name,
                "unit": axis.unit,
                "gap_unit": axis.difference_unit,
                "better": axis.better,
                "factor": axis.metric.display_factor,
                "decimals": axis.metric.decimals,
                "best": best,
                "worst": worst,
            }
            for axis, best, worst in zip(axes, held.best, held.worst, strict=True)
        ],
    }


def _points_data(
    findings: Findings, held: Candidates, points: Sequence[OperatingPoint], files: RunFiles
) -> list[dict[str, Any]]:
    """Return what the page's script needs of each point that can be chosen."""
    ids = ids_by_point(findings.networks, [axis.task for axis in findings.axes])
    # Object storage is asked too slowly: the command itself says where a network is missing.
    can_look = all(store.is_local for store in files.stores)
    data = []
    for index in held.offered:
        point, seed = points[index], held.middle_seeds[index]
        run_id = ids[held.keys[index]][seed]
        is_kept = not can_look or any(store.has_checkpoint(run_id) for store in files.stores)
        data.append(
            {
                "arm": point.arm,
                "colour": style_of(findings, point.arm).colour_number,
                "priorities": findings.shown_priorities(point.priorities, empty=""),
                "losses": held.losses[index].tolist(),
                # A narrow page breaks before the sign, not behind it.
                "shown": [
                    mean_text(axis, mean, sd).replace("± ", "±\N{NO-BREAK SPACE}")
                    for axis, mean, sd in zip(findings.axes, point.means, point.sds, strict=True)
                ],
                "seed": seed,
                "num_seeds": point.n,
                "run": run_id if is_kept else "",
            }
        )
    return data
