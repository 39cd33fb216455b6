"""Train one run without Ray, on the CPU or one GPU: `python -m mtl.training SPEC.json --store DIR`.

On several GPUs: `torchrun --nproc-per-node 2 -m mtl.training SPEC.json --store DIR`.

Started again it goes on from its last checkpoint, that of the last finished epoch unless it was
killed; on the CPU the outcome is the same bit for bit as without the stop.
"""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mtl.command_line import Parser, answer, run
from mtl.errors import UsageError
from mtl.records import EpochRecord
from mtl.spec import RunSpec, Runtime
from mtl.spec.encoders import weights_file_id
from mtl.store import Store
from mtl.store.lease import to_stderr
from mtl.training import fit
from mtl.training.ranks import is_of_another_rank, joined_as_started


def main(argv: Sequence[str] | None = None) -> int:
    """Train the run of a spec file; return the exit status."""
    return run("training", lambda: _main(argv), continues=True)


def _main(argv: Sequence[str] | None) -> int:
    given = _parser().parse_args(argv)
    runtime = Runtime(
        device=given.device,
        num_threads=given.threads,
        data_root=given.data_root,
        keep=given.keep,
        checkpoint_seconds=given.checkpoint_seconds,
        cuda_graphs=given.cuda_graphs,
        encoder_weights_file=given.encoder_weights,
        num_samples=given.num_samples,
        sample_epochs=tuple(given.sample_epochs),
    )
    spec = _read_spec(Path(given.spec))
    check_weights_file(spec, given.encoder_weights)
    try:
        with joined_as_started(given.device) as ranks:
            ranks.from_first(partial(_make_store, given.store))  # the others then find it
            result = fit(spec, Store(given.store), runtime, on_epoch=_print_epoch)
    except BaseException as error:
        if is_of_another_rank(error):
            return 1  # that one says it
        raise
    if ranks.is_first and not answer(result.to_dict()):
        print(json.dumps(result.to_dict(), indent=1))
    return 0


def _make_store(address: str) -> None:
    """Make the store unless it is there, and say what its locks do not keep off."""
    note = Store(address).lock_note
    if note is not None:
        to_stderr(note)


def _parser() -> Parser:
    parser = Parser(prog="python -m mtl.training", description=__doc__)
    parser.add_argument("spec", metavar="SPEC.json", help="a RunSpec as JSON; see mtl/spec/")
    parser.add_argument(
        "--store",
        default="results",
        help="folder of results or address of object storage (default: results)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--data-root", help="folder of prepared data (default: user's cache)")
    parser.add_argument("--keep", default="final", help="none, final, last or all (default: final)")
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=Runtime.checkpoint_seconds, metavar="SECONDS",
        help="between two checkpoints at least; a killed run repeats what came after (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--cuda-graphs", action="store_true", help="steps as CUDA graphs; not yet seen on a GPU"
    )
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
    return parser


def _read_spec(path: Path) -> RunSpec:
    try:
        fields = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"Expected a run's spec as JSON in {path}, got no JSON ({error}). A sweep's "
            "--plan --json prints those of its runs."
        ) from error
    try:
        return RunSpec.from_dict(fields)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def check_weights_file(spec: RunSpec, path: str | None) -> None:
    """Raise a `UsageError` if a file of encoder weights is given that the spec does not name."""
    if path is not None and weights_file_id(path) != spec.network.encoder_weights:
        raise UsageError(
            f"Expected a spec whose network.encoder_weights is {weights_file_id(path)}, which "
            f"{path} is, got {spec.network.encoder_weights!r}. Name the file's id in the spec, or "
            "leave --encoder-weights out."
        )


def _print_epoch(record: EpochRecord) -> None:
    losses = ", ".join("absent" if loss is None else f"{loss:.4g}" for loss in record.losses)
    print(f"epoch {record.epoch}: losses {losses}; {record.seconds:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
