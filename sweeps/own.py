"""One's own training function over methods, priorities, seeds and params, on Ray Tune.

python -m sweeps.own my_training:train --metrics steering=mae:min:degrees drowsiness=auroc:max
python -m sweeps.own my_training:train --metrics ... --set lr=1e-3,3e-4 --plan

In Python: `from sweeps import Metric, Sweep`. See docs/own-sweep.md.
"""

import argparse
import dataclasses
import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from analysis.load.metrics import asked_metrics
from analysis.load.plans import Asked
from analysis.reports import AskedMetrics, ReportSummary, to_text, write_reports
from mtl.command_line import Parser, leave, run
from mtl.errors import UsageError
from mtl.spec import OwnSpec, Runtime, equal_priorities
from mtl.spec.code import code_hash, code_of, is_reference, load_object, top_module
from mtl.spec.methods import check_options, needs_of
from mtl.spec.strict import checked_name, parse_yaml
from mtl.spec.tasks import DECLARED_TASKS, DeclaredTask, LossKind, Metric
from mtl.store import Store, check_sweep_name
from sweeps.command import (
    deadline_of,
    num_slots,
    report_folder,
    show_plan,
    train_and_report,
)
from sweeps.launch import Execution, leave_tune_alone
from sweeps.options import (
    PRIMARY_HELP,
    Command,
    add_execution_options,
    check_plan_options,
    execution_of,
)
from sweeps.plan import Grid, Plan, defaults, make_plan, primary_of, simplex_lattice
from sweeps.plan.grid import MAX_RUNS, check_once
from sweeps.plan.lattice import coarse_to_fine
from sweeps.status.journal import with_declared

KIND = "own"
OPTIONS = "method_options."
"""Begins the names of methods' options on the command line."""

Train = Callable[[dict[str, Any]], Any]
"""An ordinary training function of Ray Tune."""


class Sweep:
    """A grid over one's own training function.

    `train(config)` is an ordinary function of Ray Tune: it reports with `tune.report`, saves with
    its `checkpoint=` and goes on from `tune.get_checkpoint()`. Its config holds the params;
    `method`, `seed` and `priorities` (a mapping by task; None for a method that takes none); and
    `weighting`, the arguments of `mtl.weighting.build_weighting`.

    Args:
        train: the function, or its name as `module:name`; other processes import it.
        metrics: task -> what the function reports of it: a `Metric` or several, or
            `"mae:min:degrees"`. The order of the tasks is that of priorities and losses.
        methods: of `mtl.weighting`.
        primary: the two methods whose comparison counts without correction; the first two that
            take priorities by default.
        divisions: priorities are multiples of 1/divisions; None gives equal ones alone.
        priorities: these instead, one number a task and point.
        seeds: seeds 0 to seeds - 1.
        params: of the function; a list holds several values, each of which is trained.
        method_options: of the methods that have them; a list holds several values.
        loss_kinds: task -> `regression` or `classification`, for methods that treat the two
            differently, as `uncertainty` does; known for this project's tasks.
        code: further modules on which the results depend: an edit makes new runs, as one of the
            function's own module does.
        store: folder or address of the run store.
        name: of the sweep in the store; that of the function by default.

    Raises:
        UsageError: for what cannot be trained, in one sentence.
    """

    def __init__(
        self,
        train: Train | str,
        metrics: AskedMetrics,
        *,
        methods: Sequence[str] = defaults.DEFAULT_METHODS,
        primary: Sequence[str] | None = None,
        divisions: int | None = defaults.DEFAULT_DIVISIONS,
        priorities: Sequence[Sequence[float]] | None = None,
        seeds: int = defaults.DEFAULT_SEEDS,
        params: Mapping[str, Any] | None = None,
        method_options: Mapping[str, Any] | None = None,
        loss_kinds: Mapping[str, LossKind] | None = None,
        code: Sequence[str] = (),
        store: str | Path = "./results",
        name: str | None = None,
    ) -> None:
        self.train = _reference(train)
        self.metrics = _declared(metrics)
        if isinstance(methods, str):
            raise UsageError(f"Expected a list of methods, got {methods!r}. Write [{methods!r}].")
        check_once("method", methods)
        self.methods = {method: needs_of(method) for method in methods}
        self.metrics = self._with_loss_kinds(loss_kinds or {})
        self.store = str(store)
        self.name = check_sweep_name(name or self.train.partition(":")[2])
        if not self.methods:
            raise UsageError("Expected at least one method, got none.")
        _check_whole("seeds", seeds)
        if seeds < 1:
            raise UsageError(f"Expected at least 1 seed, got {seeds}.")
        if divisions is not None:
            _check_whole("divisions", divisions)
        if isinstance(code, str):
            raise UsageError(f"Expected a list of modules as code, got {code!r}. Write [{code!r}].")
        self._grid = Grid(
            task_sets=(tuple(self.metrics),),
            methods=tuple(self.methods),
            divisions=divisions,
            seeds=seeds,
            primary=None if primary is None else tuple(primary),
        )
        self._code = {name: code_hash(name) for name in (top_module(self.train), *code)}
        self._points = self._priorities(divisions, priorities)
        self._params = _axes(params or {})
        self._options = _axes(method_options or {})
        known = {option for needs in self.methods.values() for option in needs.options}
        for option in self._options:
            checked_name(option, known, "option", of=f"the methods {', '.join(self.methods)}")
        compared = primary_of(self._grid.methods, self._grid.primary)
        self._plan: Plan[OwnSpec] = make_plan(self.name, KIND, self._specs(), compared)

    def plan(self, *, as_json: bool = False) -> Plan[OwnSpec]:
        """Print what would be trained, what is done and what is expected; return the plan."""
        asked = self._command(Execution(), as_json=as_json)
        show_plan(asked, self._plan, num_slots(asked))
        return self._plan

    def run(self, *, keep: str = "final", **execution: Any) -> bool:
        """Train what is not done yet; return whether all of it is done.

        Args:
            keep: which checkpoints of finished runs stay: `none`, `final` or `all`.
            **execution: fields of `sweeps.launch.Execution`, such as `gpus_per_run`,
                `concurrency`, `budget_hours` or `retry_failed`.

        Raises:
            UserError: for what the user can mend, in one sentence.
        """
        for name in execution:
            checked_name(name, [f.name for f in dataclasses.fields(Execution)], "argument of run")
        return self._run(Execution(**execution), keep, with_report=False) == 0

    def report(
        self, out: str | Path | None = None, metrics: Mapping[str, str] | None = None
    ) -> dict[str, ReportSummary]:
        """Write the report unless it is up to date, and print its table; return it by label.

        Args:
            out: its folder; that of the sweep in the store by default.
            metrics: task -> the metric by which it is judged, where it has several.
        """
        store = Store(self.store, create=False)
        folder = report_folder(store, self.name) if out is None else Path(out)
        plan = with_declared(store, self._plan, None)
        asked = Asked(plan.run_ids, primary=plan.primary)
        reports = write_reports([store], folder, asked, metrics)
        print(to_text(reports))
        return reports

    def trainable(self) -> Train:
        """Return the function for a `tune.Tuner` of one's own, with `param_space`.

        It trains as `run` does, but reports to that Tuner alone: nothing goes to the store.
        """
        leave_tune_alone()
        train, specs = self.train, self._plan.runs

        def train_point(config: dict[str, Any]) -> Any:
            spec: OwnSpec = specs[config["run_id"]]
            decided = {*_readable(spec), "run_id"} - {*spec.params}
            # A scheduler may have changed params meanwhile.
            params = {name: value for name, value in config.items() if name not in decided}
            return load_object(train, "training function")({**spec.config, **params})

        return train_point

    def param_space(self) -> dict[str, Any]:
        """Return the plan as a space of Ray Tune: one trial a run, its settings readable."""
        from sweeps.launch.tune import space_of  # needs Ray, for which a plan does not wait

        return space_of({run_id: _readable(spec) for run_id, spec in self._plan.runs.items()})

    def _run(self, execution: Execution, keep: str, *, with_report: bool) -> int:
        began = time.monotonic()
        if execution.address is None:  # a cluster's driver may lack what the function imports
            load_object(self.train, "training function")
        asked = self._command(execution, keep=keep)
        deadline = deadline_of(asked)
        slots = num_slots(asked)
        return train_and_report(asked, self._plan, slots, deadline, began, with_report=with_report)

    def _command(
        self, execution: Execution, *, keep: str = "final", as_json: bool = False
    ) -> Command:
        return Command(
            kind=KIND,
            name=self.name,
            store=self.store,
            grid=self._grid,
            refine=None,
            execution=execution,
            runtime=Runtime(keep=keep),  # type: ignore[arg-type]  # it checks
            plan_only=False,
            as_json=as_json,
            probe=False,
            notes=(),
            given={},
        )

    def _with_loss_kinds(self, given: Mapping[str, LossKind]) -> dict[str, DeclaredTask]:
        """Return the declared tasks with the kinds of their losses, where a method needs them."""
        for task, kind in given.items():
            checked_name(task, self.metrics, "task", of="loss_kinds")
            checked_name(kind, get_args(LossKind), "loss kind", of=f"task {task!r}")
        known = {t: held.loss_kind for t, held in DECLARED_TASKS.items() if t in self.metrics}
        kinds = {**known, **given}
        needing = [method for method, needs in self.methods.items() if needs.uses_loss_kinds]
        lacking = [task for task in self.metrics if task not in kinds]
        if needing and lacking:
            raise UsageError(
                f"Expected the loss kinds of {', '.join(lacking)} for method {needing[0]!r}, got "
                f"none. Say loss_kinds={{{lacking[0]!r}: 'regression'}} or 'classification' (on "
                f"the command line --loss-kinds {lacking[0]}=regression)."
            )
        return {
            task: dataclasses.replace(held, loss_kind=kinds.get(task, held.loss_kind))
            for task, held in self.metrics.items()
        }

    def _priorities(
        self, divisions: int | None, given: Sequence[Sequence[float]] | None
    ) -> tuple[tuple[float, ...], ...]:
        tasks = tuple(self.metrics)
        if given is not None:
            is_list = isinstance(given, list | tuple) and len(given) > 0
            if not (is_list and all(_is_point(point, len(tasks)) for point in given)):
                raise UsageError(
                    f"Expected priorities as a list of points, each one number for each of "
                    f"{', '.join(tasks)}, got {given!r:.100}. Write "
                    f"[{equal_priorities(tasks)}] for a single point."
                )
            check_once("point of priorities", given)
            return coarse_to_fine(tuple(point) for point in given)
        if divisions is None or not any(n.takes_priorities for n in self.methods.values()):
            return (equal_priorities(tasks),)
        return coarse_to_fine(simplex_lattice(len(tasks), divisions))

    def _specs(self) -> list[OwnSpec]:
        """Return the runs, coarse to fine: seed by seed, the middle priority first."""
        axes = {**self._params, **{f"{OPTIONS}{n}": held for n, held in self._options.items()}}
        values = list(itertools.product(*axes.values()))
        num_runs = self._grid.seeds * len(self._points) * len(self.methods) * len(values)
        if num_runs > MAX_RUNS:
            raise UsageError(
                f"Expected a grid of at most {MAX_RUNS:,} runs, got {num_runs:,}. Use fewer "
                "divisions, seeds or values."
            )
        codes = {method: code_of([method]) for method in self.methods}
        specs = []
        for seed, (rank, point) in itertools.product(
            range(self._grid.seeds), enumerate(self._points)
        ):
            for held, (method, needs) in itertools.product(values, self.methods.items()):
                if rank > 0 and not needs.takes_priorities:
                    continue
                chosen = dict(zip(axes, held, strict=True))
                options = {n.removeprefix(OPTIONS): v for n, v in chosen.items() if OPTIONS in n}
                options = {n: v for n, v in options.items() if n in needs.options}
                specs.append(
                    OwnSpec(
                        train=self.train,
                        code={**self._code, **codes[method]},
                        tasks=tuple(self.metrics),
                        metrics=self.metrics,
                        method=method,
                        priorities=point if needs.takes_priorities else None,
                        method_options=check_options(method, options),
                        seed=seed,
                        params={n: v for n, v in chosen.items() if OPTIONS not in n},
                    )
                )
        return specs


def _readable(spec: OwnSpec) -> dict[str, Any]:
    """Return a run's settings as a Tune user reads them; params are plain values."""
    priorities = spec.config["priorities"] or {}
    shown = {"method": spec.method, "seed": spec.seed}
    return {**shown, **{f"priority_{t}": p for t, p in priorities.items()}, **spec.params}


def _reference(train: Any) -> str:
    """Return a training function as `module:name`, by which other processes find it."""
    if isinstance(train, str):
        if not is_reference(train):
            raise UsageError(f"Expected the training function as module:name, got {train!r}.")
        return train
    module, name = getattr(train, "__module__", None), getattr(train, "__qualname__", "")
    found = getattr(sys.modules.get(str(module)), name, None) if module != "__main__" else None
    if not callable(train) or isinstance(train, type) or found is not train:
        what = name or repr(train)[:100]
        place = "this script or notebook" if module == "__main__" else f"module {module}"
        raise UsageError(
            f"Expected a function that other processes can import, got {what!r} of {place}. Define "
            "it by `def train(config):` at the top of a file of its own, such as my_training.py, "
            "and import it from there: `from my_training import train`."
        )
    return f"{module}:{name}"


def _check_whole(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"Expected a whole number of {name}, got {value!r:.100}.")


def _is_point(point: Any, num_tasks: int) -> bool:
    return (
        isinstance(point, list | tuple)
        and len(point) == num_tasks
        and all(isinstance(value, int | float) for value in point)
    )


def _declared(metrics: AskedMetrics) -> dict[str, DeclaredTask]:
    of_task = metrics.values() if isinstance(metrics, Mapping) else [None]
    for given in of_task:
        several = given if isinstance(given, list | tuple) else []
        is_text = isinstance(given, str)
        if not (is_text or isinstance(given, Metric | list | tuple)) or not all(
            isinstance(metric, Metric) for metric in several
        ):
            raise UsageError(
                'Expected metrics as task -> "mae:min:degrees", a Metric or a list of them, got '
                f"{metrics if given is None else given!r:.100}. Say "
                '{"steering": Metric("mae", "degrees", "min"), ...}; two metrics of a task in one '
                'text are "mae:min:degrees,p95:min:degrees".'
            )
    chosen, declared = asked_metrics(metrics)
    if not chosen:
        raise UsageError(
            "Expected the tasks with what is reported of them, got none. Say "
            '{"steering": Metric("mae", "degrees", "min"), ...}, or on the command line '
            "--metrics steering=mae:min:degrees."
        )
    for task, name in chosen.items():
        if task not in declared:
            raise UsageError(
                f"Expected a direction of {task}={name}, got none. Say {name}:min, or {name}:max "
                f"where higher is better, and the unit: {name}:min:degrees."
            )
    return {task: declared[task] for task in chosen}


def _axes(values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return name -> the values of an axis: a list holds several."""
    for name, held in values.items():
        if _is_search_space(held):
            raise UsageError(
                f"Expected the values of {name} as a list, got a search space of Ray Tune, "
                f"{held!r:.100}. A sweep trains every value: write {{{name!r}: [1e-3, 3e-4]}}; to "
                "let Tune search, give sweep.trainable() to a Tuner of your own."
            )
    axes = {name: held if isinstance(held, list) else [held] for name, held in values.items()}
    for name, held in axes.items():
        if not held:
            raise UsageError(f"Expected at least one value of {name}, got none.")
        check_once(f"value of {name}", held)
    return axes


def _is_search_space(value: Any) -> bool:
    """Return whether Tune would replace a value, or one within it; Ray is not imported for it."""
    if isinstance(value, Mapping):
        return "grid_search" in value or any(map(_is_search_space, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_is_search_space, value))
    return any(kind.__module__.startswith("ray.tune.") for kind in type(value).__mro__)


# The command line.


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m sweeps.own`."""
    parser = Parser(prog="python -m sweeps.own", description=__doc__)
    what = parser.add_argument_group("what is trained").add_argument
    what("train", metavar="MODULE:NAME", help="the training function")
    what(
        "--metrics",
        nargs="+",
        required=True,
        metavar="TASK=METRIC:DIRECTION:UNIT",
        help="what it reports of each task, such as steering=mae:min:degrees",
    )
    what("--methods", nargs="+", metavar="METHOD", default=defaults.DEFAULT_METHODS)
    what("--primary", nargs=2, metavar="METHOD", help=PRIMARY_HELP)
    what(
        "--divisions",
        type=int,
        metavar="N",
        default=defaults.DEFAULT_DIVISIONS,
        help="priorities are multiples of 1/N",
    )
    what("--seeds", type=int, metavar="N", default=defaults.DEFAULT_SEEDS, help="seeds 0 to N-1")
    what(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE[,VALUE]",
        help="a param of the function, or method_options.NAME; several values are an axis",
    )
    what(
        "--loss-kinds",
        nargs="+",
        default=[],
        metavar="TASK=KIND",
        help="regression or classification, for methods such as uncertainty",
    )
    what(
        "--code", nargs="+", metavar="MODULE", default=(), help="whose edits make new runs as well"
    )
    add_execution_options(parser, "the function's name")
    show = parser.add_argument_group("instead of training").add_argument
    show("--plan", action="store_true", help="say what would run, and its cost")
    parser.set_defaults(name=None)
    return parser


def _settings(texts: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return params and method options, each name with its values."""
    params: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        try:
            values = parse_yaml(f"[{value}]") if sign and value.strip() else None
        except ValueError:
            values = None
        if not values:
            raise UsageError(f"Expected NAME=VALUE[,VALUE...] after --set, got {text!r}.")
        held = options if name.startswith(OPTIONS) else params
        if name.removeprefix(OPTIONS) in held:
            raise UsageError(f"Expected {name} once after --set, got it twice.")
        held[name.removeprefix(OPTIONS)] = [tuple(v) if isinstance(v, list) else v for v in values]
    return params, options


def _main(argv: Sequence[str] | None) -> int:
    given = make_parser().parse_args(argv)
    check_plan_options(given)
    params, options = _settings(given.set)
    metrics = dict(text.partition("=")[::2] for text in given.metrics)
    if len(metrics) < len(given.metrics):
        raise UsageError("Expected each task once after --metrics, got one twice.")
    kinds = dict(text.partition("=")[::2] for text in given.loss_kinds)
    sweep = Sweep(
        given.train,
        metrics,
        methods=given.methods,
        primary=given.primary,
        divisions=given.divisions,
        seeds=given.seeds,
        params=params,
        method_options=options,
        loss_kinds=kinds,
        code=given.code,
        store=given.store,
        name=given.name,
    )
    if given.plan:
        sweep.plan(as_json=given.json)
        return 0
    return sweep._run(execution_of(given), given.keep, with_report=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sweep; return the exit status."""
    return run(KIND, lambda: _main(argv), continues=True)


if __name__ == "__main__":
    leave(main())
