"""A store, finished or growing, for the tools that people use already.

python -m sweeps.export STORE --to tensorboard      then for each tool its own:
python -m sweeps.export STORE --to mlflow
python -m sweeps.export STORE --to wandb
python -m sweeps.export STORE --to optuna

tensorboard --logdir exported/tensorboard
mlflow ui --backend-store-uri sqlite:///exported/mlflow.db      # after pip install mlflow
wandb sync exported/wandb/wandb/offline-run-*
optuna-dashboard exported/optuna.log

STORE is a store or one sweep of it, STORE/sweeps/NAME. Asked again, what is new is added. The tools
are installed by `pip install -e '.[tools]'`; of MLflow that is what writes and no page.
"""

import argparse
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.load.plans import stores_among
from analysis.load.runs import load_stores
from mtl.command_line import Parser, answer, run
from mtl.errors import UsageError, UserError, printable
from sweeps.export.runs import ExportedRun, Exporter, exported_runs
from sweeps.text import counted

NEEDS = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb", "optuna": "optuna"}
"""Tool -> the module that writes for it."""


DEFAULT_OUT = {
    "tensorboard": "exported/tensorboard",
    "mlflow": "exported/mlflow.db",
    "wandb": "exported/wandb",
    "optuna": "exported/optuna.log",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Export; return the exit status."""
    return run("export", lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    given = _parser().parse_args(argv)
    if importlib.util.find_spec(NEEDS[given.to]) is None:
        raise UserError(
            f"Expected the package {NEEDS[given.to]}, got none. Install it: pip install "
            f"{NEEDS[given.to]}, or all tools: pip install -e '.[tools]'."
        )
    (store,), asked = stores_among([given.store])
    runs = list(exported_runs(store, asked))
    if not runs:
        raise UserError(
            f"Expected runs that have begun in {given.store}, got none. Train some first."
        )
    name = given.project or re.sub(r"[?].*", "", given.store).rstrip("/").rpartition("/")[2]
    name = re.sub(r"[/\\#?%:]", "-", name) or "runs"
    out = given.out or DEFAULT_OUT[given.to]
    try:
        return _export(given.to, out, name, runs)
    except UserError:
        raise
    except Exception as error:  # each tool has errors of its own
        raise UserError(
            f"Expected {given.to} to take the runs at {out}, got {type(error).__name__}: "
            f"{printable(error).rstrip('.')}. Give another place with --out, or the same command "
            "again: what was taken is not given again."
        ) from error


def _export(tool: str, out: str, name: str, runs: Sequence[ExportedRun]) -> int:
    if tool == "optuna":
        return _to_optuna(Path(out), name, runs)
    exporter = _exporter(tool, out, name)
    num_new = 0
    for held_run in runs:
        held = exporter.held(held_run)
        if (held.epochs, held.state) != (len(held_run.records), held_run.run.state):
            exporter.write(held_run, held)
            num_new += 1
    print(f"{counted(len(runs), 'run')} in {out}, {num_new} of them new or grown.")
    answer({"place": out, "runs": len(runs), "new": num_new})
    return 0


def _exporter(tool: str, out: str, project: str) -> Exporter:
    """Return what writes for a tool; its package alone is imported."""
    if tool == "tensorboard":
        from sweeps.export.tensorboard import TensorBoard

        return TensorBoard(Path(out))
    if tool == "mlflow":
        from sweeps.export.mlflow import MLflow

        return MLflow(out, project)
    from sweeps.export.wandb import WandB

    return WandB(Path(out), project)


def _to_optuna(path: Path, name: str, runs: Sequence[ExportedRun]) -> int:
    from sweeps.export.optuna import export_study

    task_sets = dict.fromkeys(held.spec.tasks for held in runs)
    if len(task_sets) > 1:
        each = "; ".join(" ".join(tasks) for tasks in task_sets)
        raise UsageError(
            f"Expected runs of the same tasks, got {len(task_sets)} sets of them: {each}. A study "
            "has one set of values: name one sweep, STORE/sweeps/NAME."
        )
    axes, _ = load_stores([runs[0].store], [held.run_id for held in runs]).axes()
    num_trials = export_study(path, name, runs, axes)
    print(f"{counted(num_trials, 'trial')} in study {name!r} of {path}.")
    answer({"place": str(path), "study": name, "trials": num_trials})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sweeps.export", description=__doc__)
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("--to", choices=tuple(NEEDS), required=True)
    parser.add_argument(
        "--out",
        metavar="PLACE",
        help="folder; of mlflow a file or a server's address, of optuna a file (exported/...)",
    )
    parser.add_argument(
        "--project", help="experiment, project or study (the store's or sweep's name)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
