"""Train one run without Ray, on the CPU or one GPU: `python -m mtl.training SPEC.json --store DIR`.

Started again it goes on from the last finished epoch; on the CPU the outcome is the same bit for
bit as without the stop.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mtl.errors import (
    PreparedDataError,
    RunFailedError,
    StoreError,
    StoreUnreachableError,
    UsageError,
)
from mtl.records import EpochRecord
from mtl.spec import RunSpec, Runtime
from mtl.spec.encoders import weights_file_id
from mtl.store import Store
from mtl.training import fit


def check_weights_file(spec: RunSpec, path: str | None) -> None:
    """Raise a `ValueError` if a file of encoder weights is given that the spec does not name."""
    if path is not None and weights_file_id(path) != spec.network.encoder_weights:
        raise UsageError(
            f"Expected a spec whose network.encoder_weights is {weights_file_id(path)}, which "
            f"{path} is, got {spec.network.encoder_weights!r}. Name the file's id in the spec, or "
            "leave --encoder-weights out."
        )


def _print_epoch(record: EpochRecord) -> None:
    losses = ", ".join("absent" if loss is None else f"{loss:.4g}" for loss in record.losses)
    print(f"epoch {record.epoch}: losses {losses}; {record.seconds:.1f} s", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Train the run of a spec file; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mtl.training", description=__doc__)
    parser.add_argument("spec", metavar="SPEC.json", help="a RunSpec as JSON; see mtl/spec.py")
    parser.add_argument(
        "--store",
        default="results",
        help="folder of results or address of object storage (default: results)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--data-root", help="folder of prepared data (default: user's cache)")
    parser.add_argument("--keep", default="final", help="none, final or all (default: final)")
    parser.add_argument(
        "--encoder-weights", metavar="FILE", help="weights that the encoder starts from"
    )
    parser.add_argument(
        "--sample-epochs", type=int, nargs="+", default=Runtime.sample_epochs, metavar="EPOCH",
        help="after which epochs, beside the last (2 10)",
    )  # fmt: skip
    parser.add_argument(
        "--num-samples", type=int, default=4, help="validation images kept to look at (default: 4)"
    )
    arguments = parser.parse_args(argv)
    try:
        runtime = Runtime(
            device=arguments.device,
            num_threads=arguments.threads,
            data_root=arguments.data_root,
            keep=arguments.keep,
            encoder_weights_file=arguments.encoder_weights,
            num_samples=arguments.num_samples,
            sample_epochs=tuple(arguments.sample_epochs),
        )
        spec = RunSpec.from_dict(json.loads(Path(arguments.spec).read_text("utf-8")))
        check_weights_file(spec, arguments.encoder_weights)
    except (OSError, ValueError) as error:
        print(f"{arguments.spec}: {error}", file=sys.stderr)
        return 2
    try:
        store = Store(arguments.store)
        result = fit(spec, store, runtime, on_epoch=_print_epoch)
    except (
        RunFailedError,
        StoreError,
        StoreUnreachableError,
        PreparedDataError,
        ValueError,
        OSError,
    ) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. The same command continues after the last epoch.", file=sys.stderr)
        return 1
    print(json.dumps(result.to_dict(), indent=1))
    return 0
