# PYTHON_ARGCOMPLETE_OK
"""Every command of the project as a subcommand: `lsb grid --plan` is `sweeps/priority_grid.py`.

It is a module beside the packages, since nothing within `sweeps` could say that somebody else's
package of that name was found in its place.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from mtl.command_line import Parser, answer, called_as, leave, run
from mtl.errors import UserError

COMMANDS = {
    "grid": ("sweeps.priority_grid", "train methods x priorities x seeds, and report"),
    "rates": ("sweeps.increase_rate", "train LSB's increase rates, and report"),
    "methods": ("sweeps.weighting_methods", "train all weightings at equal priority, and report"),
    "architectures": ("sweeps.architectures", "train architectures and encoders, and report"),
    "dial": ("sweeps.dial", "train forks of one trunk, mix networks between them, and report"),
    "search": ("sweeps.pareto_search", "search priorities in place of a grid, and report"),
    "own": ("sweeps.own", "train a function of your own over priorities, and report"),
    "watch": ("sweeps.watch", "look at a sweep that is running"),
    "report": ("analysis.pareto", "write the report on a store, a sweep or a table"),
    "rank": ("analysis.ranking", "write rank tables"),
    "trends": ("analysis.trends", "write how loss weights and loss scales move"),
    "prepare": ("mtl.data.prepare.__main__", "prepare a data set for training"),
    "show": ("mtl.data.show", "write a picture of prepared samples"),
    "train": ("mtl.training.__main__", "train one run from its spec, without Ray"),
    "predict": ("mtl.predict", "apply a finished run to images"),
    "export": ("mtl.export", "write a run's network as weights, a program or ONNX"),
    "track": ("sweeps.export.__main__", "give runs to TensorBoard, MLflow, W&B or Optuna"),
    "store": ("mtl.store.__main__", "list, verify, merge and remove runs"),
}
"""Subcommand -> the module whose `main` it is, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks; return the exit status, or end the process if it is its own.

    The module of the subcommand alone is imported.
    """
    words = _words_to_complete() if "_ARGCOMPLETE" in os.environ else argv
    words = sys.argv[1:] if words is None else words
    if not words or words[0] not in COMMANDS:
        return run("lsb", lambda: _main(words))
    name, module = words[0], COMMANDS[words[0]][0]

    def command() -> int:
        if module.startswith("sweeps."):
            check_own_sweeps()
        status: int = import_module(module).main(words[1:])
        return status

    with called_as(f"lsb {name}"):
        status = run(name, command)
    if argv is None:
        leave(status)
    return status


def check_own_sweeps() -> None:
    """Raise a `UserError` if `import sweeps` imports somebody else's package.

    That may lie in a folder of its own, or have written over ours where both are installed.
    """
    with suppress(Exception):  # whatever theirs does when it is imported
        if "Sweep" in import_module("sweeps").__all__:
            return
    spec = importlib.util.find_spec("sweeps")
    raise UserError(
        f"Expected this project's package sweeps, got {spec.origin if spec else 'none'} of another "
        "distribution. Uninstall that one (Weights & Biases' is called sweeps) and install this "
        "project again, or give this project an environment of its own."
    )


def _words_to_complete() -> list[str]:
    """Return the words before the one that a shell asks to complete, and which parser is asked."""
    import argcomplete

    line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    first = int(os.environ["_ARGCOMPLETE"])  # 1 for `lsb grid`, 3 for `python -m lsb grid`
    words: list[str] = argcomplete.split_line(line, point)[3][first:]
    if words and words[0] in COMMANDS:
        os.environ["_ARGCOMPLETE"] = str(first + 1)  # the subcommand is the parser's program
    return words


def _main(words: Sequence[str]) -> int:
    parser = Parser(
        prog="lsb",
        description="How much should each task matter, and what do I get for it?",
        epilog="lsb COMMAND --help says more of each.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=Parser)
    for name, (_, does) in COMMANDS.items():
        commands.add_parser(name, help=does)
    if not parser.parse_args(words).version:
        parser.error("a command or --version is required")
    from mtl.store.code_version import code_version

    print(f"lsb {code_version()}")
    answer({"version": code_version()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
