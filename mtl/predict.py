"""A finished run applied to images: pictures and arrays of every task's prediction.

    python -m mtl.predict STORE RUN_ID IMAGE... [--out DIR] [--image-size]
    python -m mtl.predict STORE RUN_A RUN_B --mix 0.3 IMAGE...

For each image DIR gets `<name>.npz` with one array a task, and `<name>.png` with the image and all
predictions side by side. Arrays are float32 (height, width, channels): depth in metres, normals of
unit length, the others in the units of their targets; `segmentation` is uint8 (height, width), an
index into `segmentation_classes`. Photographs are turned upright as their EXIF data ask, with a
note. Images are resized to the size that the run was trained at, as its training images were;
`--image-size` brings the predictions back to the size of each image.

With `--mix` it is the network between two runs that were forked from one trunk (`--fork-at` of a
sweep): of 0.3, it has 0.7 of the first one's weights and 0.3 of the second's. That takes a pass
over the training images, which are prepared where they are not.

From Python: `mtl.training.load_network(store, run_id)`, `mtl.training.mixed.mixed_network` and
`mtl.predict.predict_image`.
"""

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtl.command_line import Parser, answer, program_name, run
from mtl.data.readers.images import is_turned, read_rgb
from mtl.data.sample import RawSample, Sample
from mtl.data.show import sheet_of
from mtl.data.targets.resize import resized
from mtl.errors import BadSampleError, UsageError
from mtl.networks.base import MultiTaskNetwork
from mtl.spec import RunSpec, Runtime
from mtl.store import Store, write_atomically
from mtl.tasks import task_of
from mtl.training import load_network
from mtl.training.evaluation import predict
from mtl.training.mixed import mixed_network


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image."""

    image: np.ndarray
    """uint8 (height, width, 3) of the predictions' size."""
    targets: dict[str, np.ndarray]
    """Task -> float32 (height, width, channels), or uint8 (height, width) for segmentation."""


def predict_image(
    network: MultiTaskNetwork, spec: RunSpec, image: np.ndarray, *, image_size: bool = False
) -> Prediction:
    """Return every task's prediction for one image.

    Args:
        network: of the run, in evaluation mode; see `mtl.training.load_network`.
        spec: the run.
        image: uint8 (height, width, 3) of any size.
        image_size: bring the predictions to the image's size, bilinearly, classes by their
            scores; otherwise they have the size that the run was trained at.

    Raises:
        ValueError: for an array that is no such image.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UsageError(
            f"Expected an image as uint8 (height, width, 3), got {image.dtype} of shape "
            f"{image.shape}. Convert it to 8-bit RGB."
        )
    small = resized(RawSample(image, {}, {}), spec.data.height, spec.data.width).image
    device = next(network.parameters()).device
    batch = torch.from_numpy(small).to(device).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        predictions = predict(network, spec, batch)
    if image_size:
        size = image.shape[:2]
        predictions = {
            task: values
            if values.ndim != 4
            else functional.interpolate(values, size, mode="bilinear", align_corners=False)
            for task, values in predictions.items()
        }
    shown = image if image_size else small
    return Prediction(shown, {task: _array(task, v[0]) for task, v in predictions.items()})


def _array(task: str, prediction: Tensor) -> np.ndarray:
    """Return the prediction (channels, height, width) of a task as its users read it."""
    values = task_of(task).readable(prediction).cpu().numpy()
    return values.transpose(1, 2, 0) if values.ndim == 3 else values


def write_prediction(path: Path, prediction: Prediction, classes: Sequence[str]) -> None:
    """Write `path`.npz and `path`.png; `classes` are the names of the segmentation classes."""
    arrays = dict(prediction.targets)
    if "segmentation" in arrays:
        arrays["segmentation_classes"] = np.array(classes)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path.with_name(f"{path.name}.npz"), buffer.getvalue())
    picture = io.BytesIO()
    everywhere = np.ones(prediction.image.shape[:2], bool)
    maps = {task: values for task, values in prediction.targets.items() if values.ndim > 1}
    shown = Sample(prediction.image, maps, dict.fromkeys(maps, everywhere))
    sheet_of([shown], ["image", *shown.targets], len(classes)).save(picture, "png")
    write_atomically(path.with_name(f"{path.name}.png"), picture.getvalue())


def main(argv: Sequence[str] | None = None) -> int:
    """Predict what the command line asks for; return the exit status."""
    return run("predict", lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    given = _parser().parse_intermixed_args(argv)
    name = given.run_id
    if given.mix is not None:
        second, *given.images = given.images
        name = f"{given.run_id}_{second}_{given.mix:g}"
        if not given.images:
            raise UsageError("Expected two runs and images with --mix, got no image after them.")
    names = _names(given.images)
    if given.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("Expected a CUDA GPU for --device cuda, found none. Use cpu.")
    store = Store(given.store, create=False)
    if given.mix is None:
        network = load_network(store, given.run_id).to(given.device)
    else:
        runtime = Runtime(device=given.device, data_root=given.data_root)
        network = mixed_network(store, (given.run_id, str(second)), given.mix, runtime)
    spec = store.spec(given.run_id)
    assert isinstance(spec, RunSpec)  # others have no network
    classes = (store.manifest(given.run_id) or {})["data"]["info"]["classes"]
    out = given.out or Path("predictions") / name
    files, failed = [], []
    for path, name in zip(given.images, names, strict=True):
        try:
            image = read_rgb(path, upright=True)
        except BadSampleError as error:  # the other images are predicted all the same
            print(f"{program_name('predict')}: {error}", file=sys.stderr)
            failed.append({"image": str(path), "error": str(error)})
            continue
        prediction = predict_image(network, spec, image, image_size=given.image_size)
        out.mkdir(parents=True, exist_ok=True)
        write_prediction(out / name, prediction, classes)
        turned = " (turned upright, as its EXIF data ask)" if is_turned(path) else ""
        print(
            f"{out / name}.npz, {out / name}.png: {', '.join(prediction.targets)}{turned}",
            flush=True,
        )
        files.append(
            {"image": str(path), "arrays": f"{out / name}.npz", "picture": f"{out / name}.png"}
        )
    answer({"predictions": files, "failed": failed, "tasks": list(spec.tasks)})
    return 1 if failed else 0


def _parser() -> Parser:
    parser = Parser(prog="python -m mtl.predict", description=__doc__)
    parser.add_argument("store", metavar="STORE", help="folder or address of results")
    parser.add_argument("run_id", metavar="RUN_ID", help="of a finished run; the report names them")
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="8-bit PNG or JPEG")
    parser.add_argument(
        "--mix", type=float, metavar="SHARE", help="of the second of two runs, the rest the first's"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: predictions/RUN_ID")
    parser.add_argument(
        "--image-size", action="store_true", help="predictions of each image's own size"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--data-root", metavar="DIR", help="folder of prepared data, for --mix")
    return parser


def _names(images: Sequence[Path]) -> list[str]:
    """Return the names of the files to write; refuse two images that would write the same."""
    by_name: dict[str, Path] = {}
    for path in images:
        if path.stem in by_name:
            raise UsageError(
                f"Expected images of different names, got {by_name[path.stem]} and {path}, which "
                "would write the same files. Give them one by one with different --out."
            )
        by_name[path.stem] = path
    return list(by_name)


if __name__ == "__main__":
    sys.exit(main())
