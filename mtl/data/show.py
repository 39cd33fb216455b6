"""Look at prepared data: a contact sheet of the image and all tasks.

    python -m mtl.data.show PREPARED [--split validation] [--count 8] [--out sheet.png]

PREPARED is the folder that `python -m mtl.data.prepare` named. Invalid pixels are black.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtl.data.contact_sheet import sheet_of
from mtl.data.manifest import PreparedDataError, check_whole, read_manifest
from mtl.data.sources import Sample
from mtl.spec import SPLITS, TASKS

LEAST_PANEL_PX = 200
"""Smaller panels are enlarged: nobody sees an edge of one pixel."""


def prepared_samples(folder: Path, split: str, count: int) -> list[Sample]:
    """Return up to `count` samples of a prepared folder, evenly spread over a split."""
    tasks = [task for task in TASKS if task in read_manifest(folder)["tasks"]]
    arrays = {
        name: np.load(folder / split / f"{name}.npy", mmap_mode="r")
        for name in ["image", *tasks, *(f"{task}_valid" for task in tasks)]
    }
    num_images = len(arrays["image"])
    spread = np.linspace(0, num_images - 1, min(count, num_images)).round().astype(int)
    return [
        Sample(
            image=np.asarray(arrays["image"][index]),
            targets={task: np.asarray(arrays[task][index]) for task in tasks},
            valid={task: np.asarray(arrays[f"{task}_valid"][index]) for task in tasks},
        )
        for index in spread
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the sheet; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mtl.data.show", description=__doc__)
    parser.add_argument("prepared", type=Path, metavar="PREPARED")
    parser.add_argument("--split", choices=SPLITS, help="default: the first that is there")
    parser.add_argument("--count", type=int, default=8, help="samples (default: 8)")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help="default: sheet.png")
    given = parser.parse_args(argv)
    try:
        check_whole(given.prepared)
        split = _split(given.prepared, given.split)
        samples = prepared_samples(given.prepared, split, max(1, given.count))
        classes = read_manifest(given.prepared)["info"]["classes"]
        columns = ["image", *samples[0].targets]
        sheet = sheet_of(samples, columns, len(classes), least_px=LEAST_PANEL_PX)
        sheet.save(given.out, optimize=True)
    except PreparedDataError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"Expected a picture to be written to {given.out}, got: {error}.", file=sys.stderr)
        return 1
    print(f"{given.out}: {len(samples)} samples of {split}, {', '.join(columns)}")
    return 0


def _split(folder: Path, wanted: str | None) -> str:
    """Return the split that is wanted, or the first that a prepared folder has."""
    held = [split for split in SPLITS if (folder / split).is_dir()]
    if not held or (wanted is not None and wanted not in held):
        raise PreparedDataError(
            f"Expected the split {wanted or SPLITS[0]} in {folder}, got "
            f"{', '.join(held) or 'none'}. Name another, or prepare the data with it."
        )
    return wanted or held[0]


if __name__ == "__main__":
    sys.exit(main())
