"""The supplement's settings (section 3), as tables of RunSpec's dotted fields.

    python sweeps/priority_grid.py --preset nyuv2_mobilenet [--quick]

A preset says how a network is trained on a data set, which few machines have. Rendered scenes of
the data set's image size and counts stand in for it unless `--dataset` names the prepared one: what
a command trains must not depend on what happens to lie in a cache.

Where the supplement is silent:

- batch size: 8, and 4 for PNASNet, whose activations at 288x384 are large;
- decoder widths: lost with Figure S-1. The same authors' public ECCV 2020 decoder begins at 1024
  channels and halves for PNASNet; for MobileNetV2 half of that, as its maps have fewer channels;
- architecture: multi-column, for which Table S-3 is printed; full sharing for PNASNet, which the
  text of section 7 names;
- encoder on Taskonomy: MobileNetV2 (Table S-1 is damaged there), because eight columns of PNASNet
  would hold 0.7 billion parameters;
- the four tasks of Taskonomy: two of the geometry and two of the image, decades apart in their
  losses. The eight are all of section 2 but segmentation, of which Taskonomy has only the guesses
  of another network;
- validation images: the paper speaks of none. A tenth of the training images is held out here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtl.errors import UsageError
from mtl.spec.sections import TASKS
from mtl.spec.strict import checked_name

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class PaperData:
    """A data set of the paper."""

    name: str
    tasks: tuple[str, ...]
    """That it has labels for."""
    size: tuple[int, int]
    """Height and width, pixels."""
    counts: tuple[int, int, int]
    """Images to train, validate and test with."""

    @property
    def fields(self) -> Fields:
        """Return the fields of the scenes that stand in for it."""
        counts = zip(("train", "validation", "test"), self.counts, strict=True)
        return {
            "data.name": "scenes",
            "data.variant": "rooms",
            "data.height": self.size[0],
            "data.width": self.size[1],
            **{f"data.num_{split}": count for split, count in counts},
        }


@dataclass(frozen=True)
class Preset:
    """A row of the supplement's settings."""

    about: str
    """The setting in a few words."""
    data: PaperData
    tasks: tuple[str, ...]
    fields: Fields
    """Full size, as the supplement says."""
    quick_fields: Fields
    """What `--quick` changes: the same network and image size, few images and epochs, and an
    encoder that starts at random, because nothing is downloaded."""


NYUV2_TASKS = ("depth", "normal", "segmentation")
TASKONOMY_4_TASKS = ("depth", "normal", "edge2d", "keypoint2d")
TASKONOMY_8_TASKS = tuple(task for task in TASKS if task != "segmentation")
NYUV2 = PaperData("NYUv2", NYUV2_TASKS, (288, 384), (715, 80, 654))
TASKONOMY = PaperData("Taskonomy", TASKONOMY_8_TASKS, (256, 256), (2486, 276, 548))

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
_MULTI_COLUMN_MOBILENET: Fields = {
    "network.architecture": "multi_column",
    "network.encoder": "mobilenetv2_100",
    "network.decoder_widths": (512, 256, 128, 64, 32, 16),
    "batch_size": 8,
}
_SHARED_PNASNET: Fields = {
    "network.architecture": "full_sharing",
    "network.encoder": "pnasnet5large",
    "network.decoder_widths": (1024, 512, 256, 128, 64, 32),
    "batch_size": 4,
}
_QUICK: Fields = {
    "data.num_train": 8,
    "data.num_validation": 2,
    "data.num_test": 2,
    "network.encoder_weights": "random",
    "batch_size": 2,
    "epochs": 2,
}
_QUICKEST: Fields = {**_QUICK, "data.num_train": 4, "epochs": 1}


def _fields(data: PaperData, network: Fields, epochs: int, increase_rate: float) -> Fields:
    training = {"epochs": epochs, "method_options.increase_rate": increase_rate}
    return {**_COMMON, **data.fields, **network, **training}


_NYUV2_MIXING: Fields = {"network.cross_stitch_own_share": 0.9}
_TASKONOMY_MIXING: Fields = {"network.cross_stitch_own_share": None}
_TASKONOMY_FIELDS = _fields(TASKONOMY, {**_MULTI_COLUMN_MOBILENET, **_TASKONOMY_MIXING}, 200, 0.5)

PRESETS: dict[str, Preset] = {
    "nyuv2_mobilenet": Preset(
        "NYUv2 with MobileNetV2, 1000 epochs, increase rate 0.02",
        NYUV2,
        NYUV2_TASKS,
        _fields(NYUV2, {**_MULTI_COLUMN_MOBILENET, **_NYUV2_MIXING}, 1000, 0.02),
        _QUICK,
    ),
    "nyuv2_pnasnet": Preset(
        "NYUv2 with PNASNet, 50 epochs, increase rate 0.05",
        NYUV2,
        NYUV2_TASKS,
        _fields(NYUV2, _SHARED_PNASNET, 50, 0.05),
        _QUICKEST,
    ),
    "taskonomy_4": Preset(
        "Taskonomy with four tasks, 200 epochs, increase rate 0.5",
        TASKONOMY,
        TASKONOMY_4_TASKS,
        _TASKONOMY_FIELDS,
        _QUICK,
    ),
    "taskonomy_8": Preset(
        "Taskonomy with eight tasks, 200 epochs, increase rate 0.5",
        TASKONOMY,
        TASKONOMY_8_TASKS,
        _TASKONOMY_FIELDS,
        _QUICKEST,
    ),
}


def preset(name: str) -> Preset:
    """Return a preset; raise a `UsageError` that lists the known ones unless there is one."""
    return PRESETS[checked_name(name, PRESETS, "preset")]


def check_size(chosen: Preset, name: str, height: int, width: int) -> None:
    """Raise a `UsageError` if the preset's own data set is prepared at another size than its.

    Data sets of another `name` have any height and width.
    """
    size = _size(chosen)
    if name.startswith(chosen.data.name.lower()) and size != f"{height}x{width}":
        raise UsageError(
            f"Expected {name} prepared at {size} for this preset, got {height}x{width}. Run "
            f"`python -m mtl.data.prepare {name} --source PATH --size {size}` and choose it with "
            "--set data.prepared=HASH, or leave out --preset."
        )


def stand_in_note(chosen: Preset) -> str:
    """Return the sentence that says what the images are."""
    name = chosen.data.name.lower()
    return (
        f"{chosen.about}: rendered scenes stand in for {chosen.data.name}. `--dataset {name}` "
        f"trains on the data itself, once `python -m mtl.data.prepare {name} --source PATH --size "
        f"{_size(chosen)}` has run."
    )


def _size(chosen: Preset) -> str:
    height, width = chosen.data.size
    return f"{height}x{width}"
