"""Data sets from files: what `--dataset NAME` stands for among the prepared ones."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mtl.errors import PreparedDataError, UsageError
from mtl.spec.code import OWN, code_of, is_reference
from mtl.spec.sections import DATASETS, SPLITS, TASKS
from mtl.spec.strict import checked_name

FIXED = ("data.height", "data.width", *(f"data.num_{split}" for split in SPLITS))
"""Fields that prepared data decide."""


def dataset_axes(
    axes: Mapping[str, tuple[Any, ...]], data_root: str | None
) -> tuple[dict[str, tuple[Any, ...]], tuple[str, ...] | None]:
    """Return the axes with those that prepared data decide, and the tasks that they hold.

    Axes for scenes come back as they are, with None.

    Raises:
        UsageError: for several data sets at once, or a size or count of one's own.
        PreparedDataError: if the data set is not prepared, or prepared in several ways.
    """
    names = axes.get("data.name", ("scenes",))
    for name in names:
        if not is_reference(name):
            checked_name(name, [*DATASETS, OWN], "data set")
    if set(names) == {"scenes"}:
        return dict(axes), None
    if len(names) > 1:
        raise UsageError(
            f"Expected one data set, got {', '.join(names)}. Give each a sweep of its own."
        )
    own = [name for name in FIXED if name in axes]
    if own:
        raise UsageError(
            f"Expected no {' or '.join(own)} for {names[0]}, whose prepared data decide that. "
            "Leave it out, or prepare them at another size."
        )
    manifest = _one_prepared(names[0], axes.get("data.prepared"), data_root)
    found = {"data.prepared": manifest["folder_hash"]}
    found |= {f"data.{side}": manifest["size"][side] for side in ("height", "width")}
    found |= {f"data.num_{split}": manifest["counts"][split] for split in SPLITS}
    return {**axes, **{name: (value,) for name, value in found.items()}}, tuple(manifest["tasks"])


def _one_prepared(
    name: str, chosen: Sequence[str] | None, data_root: str | None
) -> Mapping[str, Any]:
    """Return the manifest of the one prepared version that is meant."""
    from mtl.data.prepared import data_folder, prepared_sets  # needs numpy: a tenth of a second

    found = prepared_sets(name, data_root)
    if chosen is not None:
        found = {p: m for p, m in found.items() if m["folder_hash"] in chosen}
    if not found:
        raise PreparedDataError(
            f"Expected the data set {name}, prepared, in {data_folder(data_root)}, got none. Run "
            f"`python -m mtl.data.prepare {name} --source PATH --size HxW`."
        )
    if is_reference(name) and chosen is None:
        present = code_of([name])
        current = {p: m for p, m in found.items() if m.get("code") == present}
        if not current:
            folder, last = next(reversed(found.items()))
            size = f"{last['size']['height']}x{last['size']['width']}"
            root = "" if data_root is None else f" --data-root {folder.parent}"
            chosen_options = "".join(f" --option {k}={v}" for k, v in last["options"].items())
            raise PreparedDataError(
                f"Expected {name} prepared by its source as it is, got it prepared by another. Run "
                f"`python -m mtl.data.prepare {name} --source {last['source']} --size {size}{root}"
                f"{chosen_options}`, undo the edit, or take what is there with --set data.prepared="
                f"{last['folder_hash']}."
            )
        found = current
    # A set of some splits alone is for looking at: it does not stand in the way of whole ones.
    whole = {p: m for p, m in found.items() if set(SPLITS) <= set(m["counts"])}
    if not whole:
        folder, manifest = next(iter(found.items()))
        absent = ", ".join(split for split in SPLITS if split not in manifest["counts"])
        raise PreparedDataError(
            f"Expected {', '.join(SPLITS)} of {name} in {folder}, got no {absent}. Run "
            f"`python -m mtl.data.prepare {name}` again without --split."
        )
    found = whole
    if len({manifest["folder_hash"] for manifest in found.values()}) > 1:
        listed = ", ".join(
            f"{m['folder_hash']} ({m['size']['height']}x{m['size']['width']} from {m['source']})"
            for m in found.values()
        )
        raise PreparedDataError(
            f"Expected one prepared version of {name}, got {len(found)}: {listed}. Choose one with "
            "--set data.prepared=HASH."
        )
    return next(iter(found.values()))


def check_has_tasks(
    name: str, held: Sequence[str], task_sets: Iterable[Sequence[str]], remedy: str
) -> None:
    """Raise a `UsageError` with `remedy` for a task that the data set `name` does not hold."""
    for task in (task for tasks in task_sets for task in tasks):
        if task in TASKS and task not in held:  # unknown ones are refused elsewhere
            raise UsageError(
                f"Expected tasks that {name} has ({', '.join(held)}), got {task!r}. {remedy}"
            )
