"""A finished run's network for use elsewhere: weights, an exported program, or ONNX.

    python -m mtl.export STORE RUN_ID --to torch      state dict with metadata, for torch.load
    python -m mtl.export STORE RUN_ID --to export     torch.export.load; without this project's code
    python -m mtl.export STORE RUN_ID --to onnx       ONNX Runtime and others
    python -m mtl.export STORE RUN_A RUN_B --mix 0.3 --to onnx

The program takes `images`, float32 (batch, 3, height, width) in [0, 1], and gives one output a task
in the order of the tasks: (batch, channels, height, width), what `mtl.predict` makes its arrays of
(depth in metres, normals before they are given unit length, segmentation as a score a class). Batch
and size are free; height and width are twice or more of a number that the metadata name, unless the
encoder takes one size alone. The metadata lie in the file and say the run, tasks, classes, metrics.
ONNX takes `pip install -e '.[onnx]'`.
"""

import importlib.util
import io
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mtl.command_line import Parser, answer, run
from mtl.errors import UsageError, UserError
from mtl.networks.base import MultiTaskNetwork
from mtl.networks.encoders import TimmEncoder
from mtl.spec import RunSpec, Runtime
from mtl.store import Store, write_atomically
from mtl.training import load_network
from mtl.training.mixed import mixed_network

SUFFIXES = {"torch": ".pt", "export": ".pt2", "onnx": ".onnx"}
METADATA = "metadata.json"
"""Of the extra file in an exported program."""
MAX_SIDE, MAX_BATCH = 8192, 1024
"""Of the images that an exported program takes, in pixels and number."""
MIN_MULTIPLES = 2
"""Of the smallest image's sides: torch takes a side of one pixel, which the deepest map would
have, for a constant."""


class Program(nn.Module):
    """A network that gives its predictions as a tuple, in the order of the tasks."""

    def __init__(self, network: MultiTaskNetwork, tasks: Sequence[str]) -> None:
        super().__init__()
        self.network, self._tasks = network, tuple(tasks)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return one prediction a task."""
        predictions = self.network(images)
        return tuple(predictions[task] for task in self._tasks)


def size_multiple(network: MultiTaskNetwork) -> int | None:
    """Return the number of which height and width must be multiples in an exported program.

    None where an encoder takes one size alone, and of a network from outside, of which nothing is
    known.
    """
    encoders = [module for module in network.modules() if isinstance(module, TimmEncoder)]
    if not encoders or any(encoder.made_for is not None for encoder in encoders):
        return None
    return max(encoder.prepare.multiple for encoder in encoders)


def exported_program(network: MultiTaskNetwork, spec: RunSpec) -> ExportedProgram:
    """Return the network as a program whose batch is free, and whose size is if it can be."""
    multiple = size_multiple(network)
    free: dict[int, Any] = {0: Dim("batch", min=1, max=MAX_BATCH)}
    sides = [spec.data.height, spec.data.width]
    if multiple is not None:
        sides = [multiple * max(MIN_MULTIPLES, -(-side // multiple)) for side in sides]
        for place, name in ((2, "rows"), (3, "columns")):
            most = MAX_SIDE // multiple
            free[place] = multiple * Dim(name, min=MIN_MULTIPLES, max=most)
    program = Program(network.eval(), spec.tasks)
    return torch.export.export(program, (torch.rand(2, 3, *sides),), dynamic_shapes=(free,))


@contextmanager
def _as_torch_begins() -> Iterator[None]:
    """Let torch 2.15 export: it fails in a process that has set the precision of convolutions.

    Nothing is computed meanwhile. Its warnings are about its own exporter.
    """
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    held, convolutions.fp32_precision = convolutions.fp32_precision, "tf32"
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        convolutions.fp32_precision = held


def metadata(store: Store, run_id: str, spec: RunSpec, network: MultiTaskNetwork) -> dict[str, Any]:
    """Return what a user of the file must know, as plain values."""
    manifest, result = store.manifest(run_id) or {}, store.result(run_id)
    return {
        "run_id": run_id,
        "tasks": list(spec.tasks),
        "priorities": list(spec.priorities) if spec.priorities else None,
        "method": spec.method,
        "image_size": [spec.data.height, spec.data.width],
        "size_multiple": size_multiple(network),
        "classes": list(manifest["data"]["info"]["classes"]),
        "test_metrics": dict(result.selected_metrics.get("test", {})) if result else {},
        "code_version": manifest.get("code_version"),
        "spec": spec.to_dict(),
    }


def write(
    path: Path, kind: str, network: MultiTaskNetwork, spec: RunSpec, about: dict[str, Any]
) -> None:
    """Write a network to `path` as one of `SUFFIXES`, with `about` as its metadata, whole or not.

    Raises:
        UserError: if it cannot be written there.
    """
    whole = io.BytesIO()  # torch's own writer tells a full disk by an error of no kind
    if kind == "torch":
        torch.save({"state_dict": network.state_dict(), "metadata": about}, whole)
    else:
        with _as_torch_begins():
            program = exported_program(network, spec)
            if kind == "export":
                held = {METADATA: json.dumps(about)}
                torch.export.save(program, whole, extra_files=held)
            else:
                whole.write(_onnx_bytes(program, spec, about))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, whole.getvalue())
    except OSError as error:
        raise UserError(
            f"Expected a place to write to, got {path} ({error.strerror or error}). Give another "
            "with --out, or free some space."
        ) from error


def _onnx_bytes(program: ExportedProgram, spec: RunSpec, about: dict[str, Any]) -> bytes:
    made = torch.onnx.export(
        program,
        input_names=["images"],
        output_names=list(spec.tasks),
        dynamo=True,
        verbose=False,
    )
    assert made is not None
    made.model.metadata_props.update({n: json.dumps(held) for n, held in about.items()})
    content: bytes = made.model_proto.SerializeToString()
    return content


def main(argv: Sequence[str] | None = None) -> int:
    """Export; return the exit status."""
    return run("export", lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    given = _parser().parse_args(argv)
    if (given.mix is None) != (given.second is None):
        raise UsageError("Expected two runs together with --mix, got one of them alone.")
    if given.to == "onnx" and importlib.util.find_spec("onnxscript") is None:
        raise UserError(
            "Expected the package onnxscript, got none. Install it: pip install -e '.[onnx]'."
        )
    suffix = SUFFIXES[given.to]
    if given.out is not None and given.out.suffix != suffix:
        raise UsageError(f"Expected a name that ends in {suffix} after --out, got {given.out}.")
    store = Store(given.store, create=False)
    if given.mix is None:
        network, name = load_network(store, given.run_id), given.run_id
    else:
        runtime = Runtime(device="cpu", data_root=given.data_root)
        ends = (given.run_id, given.second)
        network = mixed_network(store, ends, given.mix, runtime)
        name = f"{given.run_id}_{given.second}_{given.mix:g}"
    spec = store.spec(given.run_id)
    assert isinstance(spec, RunSpec)  # others have no network
    about = metadata(store, given.run_id, spec, network)
    if given.mix is not None:
        mixed = {"mixed_of": [given.run_id, given.second], "mix": given.mix}
        other = store.spec(given.second)
        specs = [spec.to_dict(), other.to_dict()]
        about |= {"run_id": None, "priorities": None, "test_metrics": {}, "spec": specs, **mixed}
    path = given.out or Path("exported") / f"{name}{suffix}"
    write(path, given.to, network, spec, about)
    print(f"{path}: {', '.join(spec.tasks)}")
    answer({"file": str(path), "metadata": about})
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m mtl.export", description=__doc__)
    parser.add_argument("store", metavar="STORE", help="folder or address of results")
    parser.add_argument("run_id", metavar="RUN_ID", help="of a finished run; the report names them")
    parser.add_argument("second", metavar="RUN_B", nargs="?", help="the other run of --mix")
    parser.add_argument("--to", choices=tuple(SUFFIXES), required=True)
    parser.add_argument(
        "--mix", type=float, metavar="SHARE", help="of the second run, the rest the first's"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: exported/RUN_ID.*")
    parser.add_argument("--data-root", metavar="DIR", help="folder of prepared data, for --mix")
    return parser


if __name__ == "__main__":
    sys.exit(main())
