"""The section on error maps and predictions, as in Figures S-5 and S-7 to S-9."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.compute.chosen_runs import ChosenRuns, one_seed, runs_near_equal
from analysis.compute.findings import Findings
from analysis.load.run_files import RunFiles
from analysis.load.text import listed, subsample
from analysis.render.panels import ColourBar, PictureRow, Pictures
from analysis.render.pictures import (
    CLASS_COLOURS,
    CLIPPED_SHARE,
    Estimates,
    array_names,
    error_maps,
    estimate_picture,
    estimates,
    image_numbers,
    image_picture,
    input_image,
    scale_picture,
    shared_limits,
    shrink_factor,
    summed,
    target_limits,
)
from analysis.render.section import Folded, Section
from mtl.errors import UsageError
from mtl.spec.tasks import DeclaredTask

MAX_EPOCHS = 3
"""Columns of the error maps, as in Figure S-5: the first, the last, and one between."""
MAX_PIXELS = 2_200_000
"""Of all pictures of the section together; maps take at most one byte each in the page."""


@dataclass(frozen=True)
class ShownSamples:
    """What one method's run shows of one image."""

    arm: str
    run_id: str
    errors: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    """Epoch -> task -> error at each pixel."""
    estimates: dict[str, Estimates] = field(default_factory=dict)
    """Task -> target and prediction at the last epoch; empty where they cannot be read."""


@dataclass(frozen=True)
class View:
    """What all pictures of the section share."""

    epochs: Sequence[int]
    image_number: int
    image: np.ndarray
    factor: int
    """See `analysis.render.pictures.shrink_factor`."""


def error_map_section(findings: Findings, files: RunFiles) -> Section | None:
    """Return the section; None where no run that would be shown has samples."""
    if not files.stores or not findings.points:
        return None
    choice = one_seed(runs_near_equal(findings))
    listings = {runs.arm: files.sample_epochs(runs.runs[0][1]) for runs in choice.chosen}
    epochs = subsample(sorted({e for listing in listings.values() for e in listing}), MAX_EPOCHS)
    if not epochs:
        return None
    tasks = [axis.task for axis in findings.axes]
    number, image, held = _common_image(choice.chosen, listings, files, tasks)
    # Tasks of the image as a whole have no maps. Where nothing can be read, that is said of all.
    tasks = held or tasks
    notes = [*choice.notes]
    shown = []
    for runs in choice.chosen:
        if not listings[runs.arm]:
            notes.append(f"{runs.arm}: run {runs.runs[0][1]} has no samples.")
            continue
        read, refused = _read(runs, epochs, files, tasks, number)
        if refused:
            each = listed(refused)
            notes.append(f"{runs.arm}: samples of run {read.run_id} are not shown: {each}.")
        if read.errors:
            shown.append(read)
    if image is None or not shown:
        words = "None of the samples that would be shown can be read."
        return Section("error_maps", "Error maps", words, tuple(notes))
    num_cells = (len(tasks) + 1) * (len(shown) * (len(epochs) + 1) + 2)
    height, width = image.shape[:2]
    factor = shrink_factor(height, width, MAX_PIXELS // num_cells)
    view = View(epochs, number, image_picture(image, factor), factor)
    if factor > 1:
        notes.append(f"The pictures have 1/{factor} of the height and width of the images.")
    of_tasks = tuple(
        _task_pictures(shown, task, view, _loss_unit(findings.declared[task])) for task in tasks
    )
    total = []
    if len(tasks) > 1:
        total.append(
            _pictures(
                "error_maps_sum",
                "Error maps summed over the tasks",
                "The task losses at each pixel, without regularisers, added up as in Figure S-5.",
                {s.arm: {epoch: summed(maps) for epoch, maps in s.errors.items()} for s in shown},
                {"input": [view.image]},
                "sum of errors",
                view,
            )
        )
    values = {
        "runs": {s.arm: s.run_id for s in shown},
        "image": number,
        "epochs": epochs,
        "shrunk_by": factor,
        "colour_ranges": {
            p.name: [{"title": bar.title, "limits": bar.limits} for bar in p.scales]
            for p in (*total, *of_tasks)
        },
    }
    folded = Folded("Predictions and error maps of each task", of_tasks)
    return Section(
        "error_maps",
        "Error maps and predictions",
        _lead(shown, epochs, number),
        (*total, *notes, folded),
        values,
    )


def _common_image(
    chosen: Sequence[ChosenRuns],
    listings: Mapping[str, Sequence[int]],
    files: RunFiles,
    tasks: Sequence[str],
) -> tuple[int, np.ndarray | None, list[str]]:
    """Return number and picture of the first image that all runs show, else of the first run's.

    And those of the `tasks` of which some run holds maps.
    """
    of_runs: list[Mapping[str, np.ndarray]] = []
    for runs in chosen:
        for epoch in reversed(listings[runs.arm]):
            arrays = files.samples(runs.runs[0][1], epoch, array_names(tasks, ("valid",))) or {}
            try:
                image_numbers(arrays)
            except UsageError:
                continue
            of_runs.append(arrays)
            break
    if not of_runs:
        return 0, None, []
    numbers = [image_numbers(arrays) for arrays in of_runs]
    common = [n for n in numbers[0] if all(n in others for others in numbers)]
    number = (common or numbers[0])[0]
    held = [task for task in tasks if any(f"{task}_valid" in arrays for arrays in of_runs)]
    return number, input_image(of_runs[0], number), held


def _read(
    runs: ChosenRuns, epochs: Sequence[int], files: RunFiles, tasks: Sequence[str], number: int
) -> tuple[ShownSamples, list[str]]:
    """Return what a method shows of an image, and the epochs that cannot be shown and why."""
    read, refused = ShownSamples(runs.arm, runs.runs[0][1]), []
    for epoch in epochs:
        is_last = epoch == epochs[-1]
        kinds = ("error", "valid", *(("target", "prediction") if is_last else ()))
        arrays = files.samples(read.run_id, epoch, array_names(tasks, kinds))
        try:
            if arrays is None:
                raise UsageError("there are none that can be read")
            held = {task: estimates(arrays, task, number) for task in tasks if is_last}
            read.errors[epoch] = error_maps(arrays, tasks, number)
            read.estimates.update(held)
        except UsageError as error:
            refused.append(f"epoch {epoch} ({error})")
    return read, refused


def _epochs(epochs: Sequence[int]) -> str:
    return f"epoch{'s' if len(epochs) > 1 else ''} {listed([str(epoch) for epoch in epochs])}"


def _lead(shown: Sequence[ShownSamples], epochs: Sequence[int], number: int) -> str:
    words = (
        f"Where the losses lie in validation image {number}, from one run a method, after "
        f"{_epochs(epochs)}."
    )
    totals = {
        s.arm: {task: float(np.nansum(of)) for task, of in s.errors[epochs[-1]].items()}
        for s in shown
        if epochs[-1] in s.errors
    }
    # A loss may fall below 0, where nothing has a share.
    totals = {arm: t for arm, t in totals.items() if min(t.values()) >= 0 and sum(t.values()) > 0}
    if not totals or len(next(iter(totals.values()))) < 2:
        return words
    first = next(iter(totals.values()))
    task = max(first, key=first.__getitem__)
    each = listed([f"{of[task] / sum(of.values()):.0%} ({arm})" for arm, of in totals.items()])
    return f"Of the summed error after epoch {epochs[-1]}, {task} makes {each}. {words}"


def _loss_unit(declared: DeclaredTask) -> str:
    return "" if declared.loss_metric is None else declared.metric(declared.loss_metric).unit


def _task_pictures(shown: Sequence[ShownSamples], task: str, view: View, unit: str) -> Pictures:
    """Return input, target, and each method's prediction and errors."""
    columns: dict[str, list[np.ndarray | None]] = {"input": [view.image]}
    words, scales = "The task loss at each pixel, without regularisers.", []
    example = next((s.estimates[task] for s in shown if task in s.estimates), None)
    if example is not None:
        limits = target_limits(example)

        def drawn(values: np.ndarray) -> np.ndarray:
            return estimate_picture(values, example.valid, limits, view.factor, task=task)

        columns["target"] = [drawn(example.target)]
        columns["prediction"] = [
            drawn(s.estimates[task].prediction) if task in s.estimates else None for s in shown
        ]
        words += f" Predictions after epoch {view.epochs[-1]}."
        words += f" {_legend_text(task, example, limits)}"
        if task == "depth":
            scales = [ColourBar("depth (m)", "sequential", limits)]
    return _pictures(
        f"error_maps_{task}",
        f"Predictions and error maps of {task}",
        words,
        {s.arm: {epoch: maps[task] for epoch, maps in s.errors.items()} for s in shown},
        columns,
        f"{task} error ({unit})",
        view,
        scales,
    )


def _pictures(
    name: str,
    title: str,
    words: str,
    maps: Mapping[str, Mapping[int, np.ndarray]],
    columns: Mapping[str, Sequence[np.ndarray | None]],
    scale_title: str,
    view: View,
    scales: Sequence[ColourBar] = (),
) -> Pictures:
    """Return a row a method: pictures, then the error maps of the epochs in one colour range.

    `maps` are method -> epoch -> error at each pixel; `columns` are head -> pictures of the first
    rows, in the colours of `scales`.
    """
    limits = shared_limits([of for of_epochs in maps.values() for of in of_epochs.values()])
    rows = []
    for place, (arm, of_epochs) in enumerate(maps.items()):
        before = [cells[place] if place < len(cells) else None for cells in columns.values()]
        errors = [of_epochs.get(epoch) for epoch in view.epochs]
        drawn = [None if of is None else scale_picture(of, limits, view.factor) for of in errors]
        rows.append(PictureRow(arm, (*before, *drawn)))
    return Pictures(
        name=name,
        title=title,
        alt=f"{title} for validation image {view.image_number}: {listed([*maps])} after "
        f"{_epochs(view.epochs)}.",
        head=(*columns, *(f"error, epoch {epoch}" for epoch in view.epochs)),
        rows=tuple(rows),
        caption=f"{words} One colour range for all errors; the largest {CLIPPED_SHARE:.0%} share "
        "the last colour. Grey: not counted.",
        scales=(*scales, ColourBar(scale_title, "sequential", limits)),
    )


def _legend_text(task: str, example: Estimates, limits: tuple[float, float]) -> str:
    if example.are_classes:
        repeated = int(example.target.max(initial=0)) >= len(CLASS_COLOURS)
        more = f" {len(CLASS_COLOURS)} colours, so some stand for two." if repeated else ""
        return f"A colour for each class.{more}"
    if task == "normal":
        return "Red, green and blue are the x, y and z of the normal brought to length 1."
    if task == "depth":
        return "Predictions beyond the target's range take its end colours."
    span = f"from {limits[0]:.3g} to {limits[1]:.3g}, the target's range"
    if example.target.shape[2] == 2:
        return f"Red is the first channel, blue the second, each {span}."
    if example.target.shape[2] > 2:
        return f"Red, green and blue are the first three channels, each {span}."
    return f"From black to white, {span}."
