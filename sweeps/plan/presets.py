"""The supplement's settings, said once (section 3), as tables of RunSpec's dotted fields.

    python sweeps/priority_grid.py --preset nyuv2_mobilenet [--quick]

A preset says how a network is trained on a data set, which few machines have. Rendered scenes of
the data set's image size and counts stand in for it unless `--dataset` names the prepared one; the
command says so. It does not take the prepared data by itself: what a command trains must not depend
on what happens to lie in a cache.

Where the supplement is silent:

- batch size: 8, and 4 for PNASNet, whose activations at 288x384 are large;
- decoder widths: lost with Figure S-1. The same authors' public ECCV 2020 decoder begins at 1024
  channels and halves for PNASNet; for MobileNetV2 half of that, as its maps have fewer channels;
- architecture: multi-column, for which Table S-3 is printed; full sharing for PNASNet, which the
  text of section 7 names;
- encoder on Taskonomy: MobileNetV2 (Table S-1 is damaged there), because eight columns of PNASNet
  would hold 0.7 billion parameters;
- the four tasks of Taskonomy: two of the geometry and two of the image, decades apart in their
  losses. The eight are all of section 2 but segmentation, of which Taskonomy has
  the guesses of another network alone;
- validation images: the paper speaks of none. A tenth of the training images is held out here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtl.errors import UsageError
from mtl.spec.sections import TASKS
from mtl.spec.strict import checked_name

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Preset:
    """A row of the supplement's settings."""

    about: str
    """The setting in a few words."""
    dataset: str
    """What the supplement trains on."""
    labelled: tuple[str, ...]
    """Tasks that the data set has labels for."""
    tasks: tuple[str, ...]
    fields: Fields
    """Full size, as the supplement says."""
    quick_fields: Fields
    """What `--quick` changes: the same network and image size, few images and epochs, and an
    encoder that starts at random, because nothing is downloaded."""


_COMMON: Fields = {
    "network.encoder_stride": 32,
    "network.encoder_weights": "imagenet",
    "optimizer.learning_rate": 1e-4,
    "optimizer.weight_decay": 0.01,
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.999,
    "optimizer.epsilon": 1e-8,
    "optimizer.schedule": "constant",
    "horizontal_flips": True,
    "period_epochs": 1,
}
_MOBILENET: Fields = {
    "network.encoder": "mobilenetv2_100",
    "network.decoder_widths": (512, 256, 128, 64, 32, 16),
    "batch_size": 8,
}
_PNASNET: Fields = {
    "network.encoder": "pnasnet5large",
    "network.decoder_widths": (1024, 512, 256, 128, 64, 32),
    "batch_size": 4,
}
_NYUV2: Fields = {
    "data.name": "scenes",
    "data.variant": "rooms",
    "data.height": 288,
    "data.width": 384,
    "data.num_train": 715,
    "data.num_validation": 80,
    "data.num_test": 654,
}
_TASKONOMY: Fields = {
    "data.name": "scenes",
    "data.variant": "rooms",
    "data.height": 256,
    "data.width": 256,
    "data.num_train": 2486,
    "data.num_validation": 276,
    "data.num_test": 548,
}
_QUICK: Fields = {
    "data.num_train": 8,
    "data.num_validation": 2,
    "data.num_test": 2,
    "network.encoder_weights": "random",
    "batch_size": 2,
    "epochs": 2,
}

NYUV2_TASKS = ("depth", "normal", "segmentation")
TASKONOMY_4_TASKS = ("depth", "normal", "edge2d", "keypoint2d")
TASKONOMY_8_TASKS = (
    "depth",
    "normal",
    "curvature",
    "reshading",
    "edge2d",
    "edge3d",
    "keypoint2d",
    "keypoint3d",
)

PRESETS: dict[str, Preset] = {
    "nyuv2_mobilenet": Preset(
        "NYUv2 with MobileNetV2, 1000 epochs, increase rate 0.02",
        "NYUv2",
        NYUV2_TASKS,
        NYUV2_TASKS,
        {
            **_COMMON,
            **_NYUV2,
            **_MOBILENET,
            "network.architecture": "multi_column",
            "network.cross_stitch_own_share": 0.9,
            "epochs": 1000,
            "method_options.increase_rate": 0.02,
        },
        _QUICK,
    ),
    "nyuv2_pnasnet": Preset(
        "NYUv2 with PNASNet, 50 epochs, increase rate 0.05",
        "NYUv2",
        NYUV2_TASKS,
        NYUV2_TASKS,
        {
            **_COMMON,
            **_NYUV2,
            **_PNASNET,
            "network.architecture": "full_sharing",
            "epochs": 50,
            "method_options.increase_rate": 0.05,
        },
        {**_QUICK, "data.num_train": 4, "epochs": 1},
    ),
    "taskonomy_4": Preset(
        "Taskonomy with four tasks, 200 epochs, increase rate 0.5",
        "Taskonomy",
        TASKONOMY_8_TASKS,
        TASKONOMY_4_TASKS,
        {
            **_COMMON,
            **_TASKONOMY,
            **_MOBILENET,
            "network.architecture": "multi_column",
            "network.cross_stitch_own_share": None,
            "epochs": 200,
            "method_options.increase_rate": 0.5,
        },
        _QUICK,
    ),
    "taskonomy_8": Preset(
        "Taskonomy with eight tasks, 200 epochs, increase rate 0.5",
        "Taskonomy",
        TASKONOMY_8_TASKS,
        TASKONOMY_8_TASKS,
        {
            **_COMMON,
            **_TASKONOMY,
            **_MOBILENET,
            "network.architecture": "multi_column",
            "network.cross_stitch_own_share": None,
            "epochs": 200,
            "method_options.increase_rate": 0.5,
        },
        {**_QUICK, "data.num_train": 4, "epochs": 1},
    ),
}


def preset(name: str) -> Preset:
    """Return a preset; raise a `ValueError` that lists the known ones unless there is one."""
    return PRESETS[checked_name(name, PRESETS, "preset")]


def check_labelled(chosen: Preset, task_sets: Iterable[Sequence[str]]) -> None:
    """Raise a `ValueError` for a task that the preset's data set has no labels for."""
    for task in (task for tasks in task_sets for task in tasks):
        if task in TASKS and task not in chosen.labelled:
            raise UsageError(
                f"Expected tasks that {chosen.dataset} has labels for ({', '.join(chosen.labelled)}"
                f"), got {task!r}. Leave it out, or name other data with --dataset."
            )


def check_size(chosen: Preset, name: str, height: int, width: int) -> None:
    """Raise a `ValueError` if the preset's own data set is prepared at another size than its.

    Args:
        chosen: the preset.
        name: of the data set that is trained on; others than the preset's own have any size.
        height: of its prepared images.
        width: of its prepared images.
    """
    size = _size(chosen)
    if name.startswith(chosen.dataset.lower()) and size != f"{height}x{width}":
        raise UsageError(
            f"Expected {name} prepared at {size}, as the supplement has it ({chosen.about}), got "
            f"{height}x{width}. Run `python -m mtl.data.prepare {name} --source PATH --size "
            f"{size}` and choose it with --set data.prepared=HASH, or leave out --preset."
        )


def stand_in_note(chosen: Preset, sizes: Iterable[str]) -> str:
    """Return the sentence that says what the images are.

    Args:
        chosen: the preset.
        sizes: HEIGHTxWIDTH of the prepared versions of its data set.
    """
    name, size = chosen.dataset.lower(), _size(chosen)
    how = f"--dataset {name} trains on the data itself"
    if size in sizes:
        how = f"the data are prepared: {how}"
    else:
        how = f"after `python -m mtl.data.prepare {name} --source PATH --size {size}`, {how}"
    return (
        f"{chosen.about}: rendered scenes of the image size and counts of {chosen.dataset} stand "
        f"in; {how}."
    )


def _size(chosen: Preset) -> str:
    return f"{chosen.fields['data.height']}x{chosen.fields['data.width']}"
