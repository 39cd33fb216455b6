"""The section on error maps and predictions, as in Figures S-5 and S-7 to S-9."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.chosen_runs import ChosenRuns, one_seed, runs_near_equal
from analysis.compute.curves import check_records
from analysis.compute.findings import Findings
from analysis.load.axes import shown_number
from analysis.load.run_files import RunFiles
from analysis.load.text import evenly, listed
from analysis.render.panels import ColourBar, PictureRow, Pictures
from analysis.render.pictures import (
    CLASS_COLOURS,
    CLIPPED_SHARE,
    ErrorMaps,
    Estimates,
    array_names,
    error_maps,
    estimate_picture,
    estimates,
    even_weights,
    image_numbers,
    image_picture,
    scale_picture,
    shared_limits,
    shrink_factor,
    target_limits,
)
from analysis.render.section import Folded, Section
from analysis.render.table import Table
from mtl.errors import UsageError
from mtl.records import LOSS_METRIC, METRICS

MOST_EPOCHS = 3
"""Columns of the error maps, as in Figure S-5."""
MOST_IMAGES = 2
"""In the panels of predictions; the error maps show the first."""


@dataclass(frozen=True)
class ShownSamples:
    """What one method's run shows; filled while its samples are read."""

    arm: str
    run_id: str
    maps: dict[int, dict[int, ErrorMaps]]
    """Epoch -> number of an image -> error maps; all images only at the last epoch."""
    weights: dict[int, dict[str, float] | None]
    """Epoch -> task -> loss weight, brought to a mean of 1."""
    estimates: dict[str, dict[int, Estimates]]
    """Task -> image -> target and prediction at the last epoch; empty where it is not read."""

    def first_map(self, epoch: int) -> ErrorMaps | None:
        """Return the error maps of the first image after an epoch, if there are any."""
        of_images = self.maps.get(epoch)
        return None if of_images is None else next(iter(of_images.values()))


def chosen_epochs(epochs: Sequence[int]) -> tuple[int, ...]:
    """Return up to `MOST_EPOCHS` epochs: first, last, and those evenly between in order."""
    return tuple(evenly(sorted(set(epochs)), MOST_EPOCHS))


def agreed_images(
    chosen: Sequence[ChosenRuns],
    listings: Mapping[str, Sequence[int]],
    files: RunFiles,
    most: int = MOST_IMAGES,
) -> dict[int, np.ndarray]:
    """Return number -> picture of at most `most` images: those all runs show, or the first."""
    of_runs = []
    for runs in chosen:
        for epoch in reversed(listings[runs.arm]):
            arrays = files.samples(runs.runs[0][1], epoch, array_names((), ()))
            try:
                numbers = image_numbers(arrays or {})
            except ValueError:
                continue
            of_runs.append(dict(zip(numbers, (arrays or {})["image"], strict=True)))
            break
    if not of_runs:
        return {}
    common = [number for number in of_runs[0] if all(number in other for other in of_runs)]
    return {number: of_runs[0][number] for number in (common or [*of_runs[0]])[:most]}


def read_samples(
    chosen: Sequence[ChosenRuns],
    listings: Mapping[str, Sequence[int]],
    epochs: Sequence[int],
    files: RunFiles,
    tasks: Sequence[str],
    images: Mapping[int, np.ndarray],
) -> tuple[list[ShownSamples], list[str]]:
    """Return what each method shows, and why others show less."""
    shown: list[ShownSamples] = []
    targets: dict[tuple[str, int], np.ndarray] = {}
    notes = []
    for runs in chosen:
        run_id = runs.runs[0][1]
        if not listings[runs.arm]:
            notes.append(f"{runs.arm}: run {run_id} has no samples.")
            continue
        read = ShownSamples(runs.arm, run_id, {}, {}, {task: {} for task in tasks})
        refused = []
        for epoch in epochs:
            try:
                _read(read, epoch, files, images, targets, is_last=epoch == epochs[-1])
            except ValueError as error:
                refused.append(f"epoch {epoch} ({error})")
        if refused:
            notes.append(f"{runs.arm}: samples of run {run_id} are not shown: {listed(refused)}.")
        if read.maps:
            read.weights.update(_weights(read, files))
            shown.append(read)
    return shown, notes


def _read(
    into: ShownSamples,
    epoch: int,
    files: RunFiles,
    images: Mapping[int, np.ndarray],
    targets: dict[tuple[str, int], np.ndarray],
    *,
    is_last: bool,
) -> None:
    """Read the samples of an epoch; at the last one predictions too, and of all images.

    `targets` are those of the runs read before, and take up those of the first.
    """
    tasks = list(into.estimates)
    kinds = ("error", "valid", *(("target", "prediction") if is_last else ()))
    arrays = files.samples(into.run_id, epoch, array_names(tasks, kinds))
    if arrays is None or not images:
        raise UsageError("there are none that can be read")
    maps = {}
    found: dict[tuple[str, int], Estimates] = {}
    for number in images if is_last else list(images)[:1]:
        maps[number] = error_maps(arrays, tasks, number)
        if not np.array_equal(maps[number].image, images[number]):
            raise UsageError(f"image {number} is another picture than in the run before")
        for task in tasks if is_last else ():
            found[task, number] = estimates(arrays, task, number)
            target = found[task, number].target
            if not np.array_equal(target, targets.get((task, number), target), equal_nan=True):
                raise UsageError(f"the {task} target of image {number} is another one")
    for (task, number), estimate in found.items():
        targets.setdefault((task, number), estimate.target)
        into.estimates[task][number] = estimate
    into.maps[epoch] = maps


def _weights(shown: ShownSamples, files: RunFiles) -> dict[int, dict[str, float] | None]:
    records = files.epochs(shown.run_id)
    tasks = list(shown.estimates)
    try:
        check_records(records, len(tasks))
    except ValueError:
        return dict.fromkeys(shown.maps)
    held = {record.epoch: record.weights for record in records}
    return {epoch: even_weights(tasks, held.get(epoch)) for epoch in shown.maps}


MOST_PIXELS = 2_200_000
"""Of all pictures of the section together; maps take at most one byte each in the page."""
OPEN_TASKS = 3
"""With more tasks than this, predictions are folded away, and of one image only."""


def error_map_section(findings: Findings, files: RunFiles) -> Section | None:
    """Return the section; None where no run that would be shown has samples."""
    if not files.stores or not findings.points:
        return None
    choice = one_seed(runs_near_equal(findings))
    listings = {runs.arm: files.sample_epochs(runs.runs[0][1]) for runs in choice.chosen}
    epochs = chosen_epochs([epoch for listing in listings.values() for epoch in listing])
    if not epochs:
        return None
    tasks = [axis.task for axis in findings.axes]
    num_images = MOST_IMAGES if len(tasks) <= OPEN_TASKS else 1
    images = agreed_images(choice.chosen, listings, files, num_images)
    shown, notes = read_samples(choice.chosen, listings, epochs, files, tasks, images)
    notes = [*choice.notes, *notes]
    if not shown:
        words = "None of the samples that would be shown can be read."
        return Section("error_maps", "Error maps", words, tuple(notes), {"notes": tuple(notes)})
    height, width = next(iter(images.values())).shape[:2]
    num_cells = _num_cells(len(shown), len(epochs), len(images), len(tasks))
    factor = shrink_factor(height, width, MOST_PIXELS // num_cells)
    if factor > 1:
        notes.append(f"The pictures have 1/{factor} of the height and width of the images.")
    kinds = (False, True) if len(tasks) > 1 else ()
    sums = [_sum_pictures(shown, epochs, factor, weighted=weighted) for weighted in kinds]
    of_tasks = [_task_error_pictures(shown, epochs, task, factor) for task in tasks]
    predictions = [_prediction_pictures(shown, images, task, factor) for task in tasks]
    drawn = [p for p in (*sums, *of_tasks, *predictions) if p is not None]
    held_back = tuple(p for p in predictions if p is not None)
    if held_back and len(tasks) > OPEN_TASKS:
        last_parts: tuple[Any, ...] = (Folded("Predictions of each task", held_back),)
    else:
        last_parts = held_back
    table = share_table(shown, tasks)
    return Section(
        name="error_maps",
        title="Error maps and predictions",
        lead=_lead(shown, epochs, tasks),
        parts=(
            *(pictures for pictures in sums if pictures is not None),
            *notes,
            Folded("Error maps of each task, and their shares", (*of_tasks, table)),
            *last_parts,
        ),
        values={
            "runs": {s.arm: s.run_id for s in shown},
            "images": list(images),
            "epochs": epochs,
            "shrunk_by": factor,
            "errors": table.raw.to_dict("records"),
            "colour_ranges": {
                p.name: [{"title": bar.title, "limits": bar.limits} for bar in p.scales]
                for p in drawn
            },
            "notes": tuple(notes),
        },
    )


def _num_cells(num_arms: int, num_epochs: int, num_images: int, num_tasks: int) -> int:
    """Return how many pictures the section holds at most."""
    of_errors = (num_tasks + 2) * (num_arms * num_epochs + 1)
    return of_errors + num_tasks * num_images * 2 * (num_arms + 1)


def _sum_pictures(
    shown: Sequence[ShownSamples], epochs: Sequence[int], factor: int, *, weighted: bool
) -> Pictures | None:
    """Return the sums over the tasks; None where no method has the weights."""
    maps: dict[tuple[str, int], np.ndarray] = {}
    for s in shown:
        for epoch in epochs:
            of_tasks, weights = s.first_map(epoch), s.weights.get(epoch)
            if of_tasks is not None and (weights is not None or not weighted):
                maps[s.arm, epoch] = of_tasks.summed(weights if weighted else None)
    if not maps:
        return None
    if not weighted:
        return _error_pictures(
            "error_maps_sum",
            "Error maps summed over the tasks",
            "sum of errors",
            "The task losses at each pixel, without regularisers, added up as they are: the "
            "overall error map of Figure S-5.",
            shown,
            epochs,
            maps,
            factor,
        )
    without = [s.arm for s in shown if not any(s.weights.values())]
    said = f" Without loss weights: {listed(without)}." if without else ""
    return _error_pictures(
        "error_maps_weighted",
        "Error maps times the loss weights, summed over the tasks",
        "sum of weighted errors",
        "The same with each task's error times its loss weight in that epoch, the weights brought "
        f"to a mean of 1: what the training works on.{said}",
        shown,
        epochs,
        maps,
        factor,
    )


def _task_error_pictures(
    shown: Sequence[ShownSamples], epochs: Sequence[int], task: str, factor: int
) -> Pictures:
    maps: dict[tuple[str, int], np.ndarray] = {}
    for s in shown:
        for epoch in epochs:
            of_tasks = s.first_map(epoch)
            if of_tasks is not None:
                maps[s.arm, epoch] = of_tasks.masked(task)
    words = "The task loss at each pixel, without regularisers."
    return _error_pictures(
        f"error_maps_{task}",
        f"Error maps of {task}",
        _error_title(task),
        words,
        shown,
        epochs,
        maps,
        factor,
    )


def _error_pictures(
    name: str,
    title: str,
    scale_title: str,
    words: str,
    shown: Sequence[ShownSamples],
    epochs: Sequence[int],
    maps: Mapping[tuple[str, int], np.ndarray],
    factor: int,
) -> Pictures:
    """Return methods by epochs in one shared colour range, beside the input image."""
    limits = shared_limits(list(maps.values()))
    image_number, example = next(iter(next(iter(shown[0].maps.values())).items()))
    rows: list[PictureRow] = []
    for s in shown:
        cells = [maps.get((s.arm, epoch)) for epoch in epochs]
        pictures = (None if m is None else scale_picture(m, limits, factor) for m in cells)
        image = None if rows else image_picture(example.image, factor)
        rows.append(PictureRow(s.arm, (image, *pictures)))
    return Pictures(
        name=name,
        title=title,
        alt=f"{title} for validation image {image_number}: {listed([s.arm for s in shown])} after "
        f"epochs {listed([str(epoch) for epoch in epochs])}.",
        head=("input", *(f"epoch {epoch}" for epoch in epochs)),
        rows=tuple(rows),
        caption=f"{words} One colour range for all; the {CLIPPED_SHARE:.0%} of pixels with the "
        "largest values share the last colour. Grey: not counted.",
        scales=(ColourBar(scale_title, "sequential", limits),),
    )


def _prediction_pictures(
    shown: Sequence[ShownSamples], images: Mapping[int, np.ndarray], task: str, factor: int
) -> Pictures | None:
    """Return predictions and, below each, errors: methods side by side, images downwards."""
    having = [s for s in shown if s.estimates[task]]
    if not having:
        return None
    examples = having[0].estimates[task]
    limits = target_limits(examples.values())
    errors = {
        (s.arm, number): of_tasks.masked(task)
        for s in having
        for number, of_tasks in s.maps[max(s.maps)].items()
    }
    error_limits = shared_limits(list(errors.values()))
    rows = []
    for place, image in images.items():
        example = examples[place]
        of_methods = [s.estimates[task][place] for s in having]
        target, *drawn = (
            estimate_picture(values, example.valid, limits, factor, task=task)
            for values in (example.target, *(e.prediction for e in of_methods))
        )
        of_errors = (scale_picture(errors[s.arm, place], error_limits, factor) for s in having)
        rows.append(
            PictureRow(f"image {place}, prediction", (image_picture(image, factor), *drawn))
        )
        rows.append(PictureRow(f"image {place}, error", (target, *of_errors)))
    scales = [ColourBar(_error_title(task), "sequential", error_limits)]
    if task == "depth":
        scales.insert(0, ColourBar("depth (m)", "sequential", limits))
    epoch = max(having[0].maps)
    arms = [s.arm for s in having]
    return Pictures(
        name=f"predictions_{task}",
        title=f"Predictions of {task}",
        alt=f"Input, target, predictions and errors of {task} by {listed(arms)} for validation "
        f"image {listed([str(number) for number in images])}.",
        head=("input, target below", *arms),
        rows=tuple(rows),
        caption=f"After epoch {epoch}, the error below each prediction in one colour range. "
        f"{_legend_words(task, example, limits)} Grey: not counted.",
        scales=tuple(scales),
    )


def _legend_words(task: str, example: Estimates, limits: tuple[float, float]) -> str:
    if example.are_classes:
        repeated = int(example.target.max(initial=0)) >= len(CLASS_COLOURS)
        more = f" {len(CLASS_COLOURS)} colours, so some stand for two." if repeated else ""
        return f"A colour for each class.{more}"
    if task == "normal":
        return "Red, green and blue are the x, y and z of the normal brought to length 1."
    if task == "depth":
        return "Predictions beyond the targets' range take its end colours."
    span = f"from {limits[0]:.3g} to {limits[1]:.3g}, the targets' range"
    if example.target.shape[2] == 2:
        return f"Red is the first channel, blue the second, each {span}."
    return f"From black to white, {span}."


def _error_title(task: str) -> str:
    """Return the name and unit of a task's error at a pixel."""
    metric = METRICS[LOSS_METRIC[task]]
    return f"{task} error ({metric.unit})"


def _lead(shown: Sequence[ShownSamples], epochs: Sequence[int], tasks: Sequence[str]) -> str:
    last = epochs[-1]
    number = next(iter(next(iter(shown[0].maps.values()))))
    words = [
        f"Where the losses lie in validation image {number}, from one run a method, after epochs "
        f"{listed([str(epoch) for epoch in epochs])}."
    ]
    plain = {s.arm: of.shares() for s in shown if (of := s.first_map(last)) is not None}
    held = {arm: shares for arm, shares in plain.items() if shares is not None}
    if not held or len(tasks) < 2:
        return words[0]
    first = next(iter(held.values()))
    task = max(first, key=lambda name: first[name])
    each = listed([f"{shares[task]:.0%} ({arm})" for arm, shares in held.items()])
    words.append(f"Of the summed error after epoch {last}, {task} makes {each}.")
    weighted = []
    for s in shown:
        of_tasks, weights = s.first_map(last), s.weights.get(last)
        shares = None if of_tasks is None or weights is None else of_tasks.shares(weights)
        if shares is not None:
            weighted.append(f"{shares[task]:.0%} ({s.arm})")
    if weighted:
        even = f"{100 / len(tasks):.3g}%"
        words.append(
            f"Times the loss weights it makes {listed(weighted)}; an even share would be {even}."
        )
    return " ".join(words)


def share_table(shown: Sequence[ShownSamples], tasks: Sequence[str]) -> Table:
    """Return mean errors of the first image and each task's share of their sum."""
    rows, raw = [], []
    for s in shown:
        for epoch, of_images in s.maps.items():
            image, of_tasks = next(iter(of_images.items()))
            weights = s.weights.get(epoch)
            plain = of_tasks.shares()
            weighted = None if weights is None else of_tasks.shares(weights)
            for task in tasks:
                mean = of_tasks.mean(task)
                values = {
                    "share_of_sum": None if plain is None else plain[task],
                    "weight": None if weights is None else weights[task],
                    "share_of_weighted_sum": None if weighted is None else weighted[task],
                }
                named = {"method": s.arm, "run_id": s.run_id, "epoch": epoch, "image": image}
                raw.append({**named, "task": task, "mean_error": mean, **values})
                shown_values = (
                    shown_number(mean, ".3g"),
                    shown_number(values["share_of_sum"], ".0%"),
                    shown_number(values["weight"], ".3g"),
                    shown_number(values["share_of_weighted_sum"], ".0%"),
                )
                rows.append((s.arm, task, str(epoch), *shown_values))
    return Table(
        "error_shares",
        "Mean error over the counted pixels of the image, each task's share of the sum over all "
        "tasks and pixels, and the same times the loss weights (brought to a mean of 1).",
        ("method", "task", "epoch", "mean error", "share", "weight", "weighted share"),
        tuple(rows),
        pd.DataFrame(raw),
        num_words=2,
    )
