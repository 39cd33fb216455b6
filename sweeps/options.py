"""The command line and the YAML file that all sweeps share.

Later ones win: the sweep's own table, `--preset`, `--quick`, the YAML file, the command line.
Within the file, and within the command line, a field is set once: `--epochs 20 --set epochs=10` is
refused.
"""

import argparse
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtl.command_line import Parser
from mtl.errors import UsageError
from mtl.spec import Runtime
from mtl.spec.code import TORCHJD
from mtl.spec.encoders import weights_file_id
from mtl.spec.methods import TORCHJD_METHODS
from mtl.spec.strict import convert, flat, parse_yaml
from mtl.store import check_sweep_name, existing_store
from sweeps.launch import Execution
from sweeps.plan import Grid, check_grid, defaults, left_out
from sweeps.plan.cost import num_gpus
from sweeps.plan.datasets import check_has_tasks, dataset_axes
from sweeps.plan.fields import field_values, parse_assignment
from sweeps.plan.packs import Pack, pack_notes
from sweeps.plan.presets import PRESETS, Preset, check_size, preset, stand_in_note
from sweeps.plan.refine import check_refinable

FLAGS: dict[str, tuple[str, Any]] = {
    "tasks": ("tasks", tuple[tuple[str, ...], ...]),
    "methods": ("method", tuple[str, ...]),
    "seeds": ("seed", int),
    "divisions": ("priorities", int),
    "preset": ("preset", str),
    "baselines": ("baselines", bool),
    "refine": ("refine", int),
    "refine_by": ("refine_by", str),
    "fork_at": ("fork_at", float),
    "mixes": ("mixes", int),
    "primary": ("primary", tuple[str, ...]),
    "tuned_from": ("tuned_from", str),
    "architectures": ("network.architecture", None),
    "epochs": ("epochs", None),
    "dataset": ("data.name", None),
}
"""Flags that the YAML file may hold as well -> the field of RunSpec that each decides (its own name
where it decides none), and the type of its value; None: the field's, and it is an axis."""
FLAGS_ONLY = {
    "tasks": "--tasks",
    "method": "--methods",
    "seed": "--seeds N (0 to N-1)",
    "trunk": "--fork-at",
    "forked_after": "--fork-at",
    "mixed_between": "--mixes",
    "numerics_version": "the release of the code",
}
"""Fields that --set and the YAML file do not take -> what sets them."""
PRIMARY_HELP = (
    "the comparison that counts without correction (the first two methods that take priorities)"
)
EVERY_TORCHJD = f"{TORCHJD}*"

Axes = dict[str, tuple[Any, ...]]
"""Dotted field -> its values."""


@dataclass(frozen=True)
class Setting:
    """What decides a field."""

    means: str
    """How it was given: `--epochs`, `--set`, or its name in the YAML file."""
    flag: str | None
    """A key of `FLAGS` whose value is no axis; None for the values of a field."""
    value: Any


Request = dict[str, Setting]
"""What the YAML file or the command line asks for, by the field that is decided."""


def _put(request: Request, field: str, setting: Setting, place: str = "") -> None:
    """Add a setting; refuse a second one of a field, and one of a field that a flag sets."""
    if setting.flag is None and field in FLAGS_ONLY:
        raise UsageError(f"Expected no {field} in {place}: it is set by {FLAGS_ONLY[field]}.")
    if field in request:
        raise UsageError(
            f"Expected {field} once, got it by {request[field].means} and by {setting.means}. "
            "Give it once; a comma joins several values."
        )
    request[field] = setting


def _put_flag(request: Request, name: str, value: Any, means: str) -> None:
    field, hint = FLAGS[name]
    if hint is None:
        _put(request, field, Setting(means, None, field_values(field, value)))
    else:
        _put(request, field, Setting(means, name, value))


def read_config(path: str) -> Request:
    """Return what a YAML file asks for.

    Names are those of the flags (`methods: [lsb, fixed]`) and of RunSpec's fields, dotted or
    nested; a list is an axis.

    Raises:
        UsageError: for a file that cannot be read, an unknown name, a field set twice, or a value
            of a wrong type.
    """
    try:
        held = parse_yaml(Path(path).read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it does not parse: {error}"
        raise UsageError(f"Expected a YAML file after --config, got {path} ({reason}).") from error
    if not isinstance(held, dict):
        raise UsageError(f"Expected names with values in {path}, got {type(held).__name__}.")
    for name in held:
        if not isinstance(name, str):
            raise UsageError(
                f"Expected names of options and fields in {path}, such as epochs, got the name "
                f"{name!r:.100}."
            )
    request: Request = {}
    for name, value in held.items():
        if name in FLAGS:
            _put_flag(request, name, _file_flag(name, value, path), name)
            continue
        for dotted, values in flat({name: value}).items():
            if dotted not in FLAGS_ONLY:
                values = field_values(dotted, values)
            _put(request, dotted, Setting(f"{name} in {path}", None, values), path)
    return request


def _file_flag(name: str, value: Any, path: str) -> Any:
    """Return a flag's value as argparse would have given it."""
    _, hint = FLAGS[name]
    if hint is None:
        return value
    if typing.get_origin(hint) is tuple and not isinstance(value, list):
        value = [value]
    if name == "tasks" and all(isinstance(task, str) for task in value):
        value = [value]
    return convert(value, hint, f"{name} in {path}")


def _request(given: argparse.Namespace) -> Request:
    """Return what the command line asks for, completed by the YAML file."""
    line: Request = {}
    for name in FLAGS:
        if getattr(given, name) is not None:
            _put_flag(line, name, getattr(given, name), f"--{name.replace('_', '-')}")
    if given.encoder_weights is not None:
        values = (weights_file_id(given.encoder_weights),)
        _put(line, "network.encoder_weights", Setting("--encoder-weights", None, values))
    for dotted, values in map(parse_assignment, given.set):
        _put(line, dotted, Setting("--set", None, values), "--set")
    return {**read_config(given.config), **line} if given.config else line


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line, understood."""

    kind: str
    name: str
    store: str
    grid: Grid
    refine: int | None
    """Priorities to add in the gaps of the measured front, once the grid is trained."""
    execution: Execution
    runtime: Runtime
    plan_only: bool
    as_json: bool
    probe: bool
    """Build each network of the plan and time some steps."""
    notes: tuple[str, ...]
    """What the user should know before anything starts."""
    given: Mapping[str, Any]
    """Every flag by its name, for the options that one sweep alone has."""


AddOptions = Callable[[argparse.ArgumentParser], None]
"""Adds the options that one sweep alone has."""


def make_parser(
    kind: str, description: str, add_options: AddOptions | None = None
) -> argparse.ArgumentParser:
    """Return the parser of a sweep's command line."""
    parser = Parser(prog=f"{kind}.py", description=description)
    what = parser.add_argument_group("what is trained").add_argument
    what("--tasks", nargs="+", action="append", metavar="TASK", help="repeat for more sets")
    what("--methods", nargs="+", metavar="METHOD", help="torchjd:* means all of TorchJD's")
    what("--primary", nargs=2, metavar="METHOD", help=PRIMARY_HELP)
    what(
        "--tuned-from",
        metavar="SWEEP",
        help="of the store: each method gets the values that were best for it on validation there",
    )
    what("--architectures", nargs="+", metavar="NAME")
    what("--divisions", type=int, metavar="N", help="priorities are multiples of 1/N")
    what(
        "--baselines",
        "--corners",
        action=argparse.BooleanOptionalAction,
        help="also each task alone, in a network of its own (the corners of the priorities)",
    )
    what(
        "--refine",
        type=int,
        metavar="N",
        help="then N more priorities, the same for every method, where --refine-by says",
    )
    what(
        "--refine-by",
        metavar="RULE",
        help="gaps: the widest of the validation front; unsure: where the fitted front is (gaps)",
    )
    what(
        "--fork-at",
        type=float,
        metavar="SHARE",
        help="of the epochs: until then one training at equal priorities serves all priorities",
    )
    what(
        "--mixes",
        type=int,
        metavar="N",
        help="with --fork-at: N networks between neighbouring forks, mixed and not trained",
    )
    what("--seeds", type=int, metavar="N", help="seeds 0 to N-1")
    what("--epochs", type=int, metavar="N")
    what("--dataset", metavar="NAME")
    what(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE[,VALUE]",
        help="any field of a run by its dotted name; several values are an axis",
    )
    what("--config", metavar="FILE", help="YAML with the same names; flags win over it")
    what("--preset", metavar="NAME", help=f"the paper's settings: {', '.join(PRESETS)}")
    what("--quick", action="store_true", help="a small version, to see it work")
    where = add_execution_options(parser, kind)
    where("--data-root", metavar="DIR", help="folder of prepared data")
    where("--local-data", metavar="DIR", help="folder on each node's disk to copy the data to")
    where(
        "--pack",
        default="1",
        metavar="K|auto",
        help="runs that train together in one process, sharing batches and a GPU (%(default)s)",
    )
    where(
        "--encoder-weights",
        metavar="FILE",
        help="weights that the encoder starts from: a state dict of its timm model",
    )
    where(
        "--checkpoint-seconds",
        type=float,
        default=Runtime.checkpoint_seconds,
        metavar="SECONDS",
        help="between two checkpoints of a run at least (%(default)s)",
    )
    where(
        "--cuda-graphs",
        action="store_true",
        help="steps as CUDA graphs; not yet seen on a GPU",
    )
    where(
        "--num-samples",
        type=int,
        default=Runtime.num_samples,
        metavar="N",
        help="validation images kept with predictions and error maps (%(default)s)",
    )
    where(
        "--sample-epochs",
        type=int,
        nargs="+",
        default=Runtime.sample_epochs,
        metavar="EPOCH",
        help="after which epochs, beside the last (2 10)",
    )
    show = parser.add_argument_group("instead of training").add_argument
    show("--plan", action="store_true", help="say what would run, and its cost")
    show("--probe", action="store_true", help="with --plan: build the networks, time some steps")
    if add_options is not None:
        add_options(parser)
    return parser


def add_execution_options(parser: argparse.ArgumentParser, kind: str) -> Callable[..., Any]:
    """Add what says where and how runs are trained; return what adds further such options."""
    where = parser.add_argument_group("where and how").add_argument
    where("--store", default="./results", help="folder or object storage (%(default)s)")
    where("--name", default=kind, help="of the sweep in the store (%(default)s)")
    where("--address", help="join this Ray cluster, such as 'auto'")
    where("--dashboard", action="store_true", help="Ray's dashboard on this machine")
    where(
        "--serve",
        metavar="[HOST:]PORT",
        help="a page that shows the sweep while it runs, as watch.py's --serve",
    )
    where("--cpus-per-run", type=float, default=1.0, metavar="N")
    where("--gpus-per-run", type=float, metavar="N", help="a fraction shares a GPU")
    where("--concurrency", type=int, metavar="N", help="runs side by side at most")
    where(
        "--budget",
        type=float,
        metavar="HOURS",
        help="stop after this time; the same command continues",
    )
    where("--retry-failed", action="store_true", help="try runs again that failed earlier")
    where(
        "--tune-dir",
        metavar="DIR",
        help="keep Ray Tune's experiments there, with its logs: 36 KB a trial and more",
    )
    where(
        "--keep", choices=("none", "final", "all"), default="final", help="which checkpoints stay"
    )
    return where


def execution_of(given: argparse.Namespace) -> Execution:
    """Return what the options of `add_execution_options` say."""
    return Execution(
        address=given.address,
        cpus_per_run=given.cpus_per_run,
        gpus_per_run=given.gpus_per_run,
        concurrency=given.concurrency,
        retry_failed=given.retry_failed,
        budget_hours=given.budget,
        dashboard=given.dashboard,
        serve=given.serve,
        tune_dir=_absolute(given.tune_dir),
    )


def check_plan_options(given: argparse.Namespace) -> None:
    """Refuse a store without a name."""
    if not given.store.strip():
        raise UsageError("Expected a folder after --store, got an empty name.")


def parse_command(
    kind: str,
    description: str,
    argv: Sequence[str] | None,
    table: Grid,
    add_options: AddOptions | None = None,
) -> Command:
    """Return what a command line asks for.

    Args:
        kind: of the sweep: its file's name.
        description: for --help.
        argv: arguments; None means the process's own.
        table: the sweep's own grid, which the command line changes.
        add_options: the options that this sweep alone has; they come back in `Command.given`.

    Raises:
        UsageError: for wrong usage, in one sentence.
    """
    given = make_parser(kind, description, add_options).parse_args(argv)
    check_plan_options(given)
    if given.probe and (not given.plan or given.json):
        raise UsageError("Expected --probe together with --plan and without --json.")
    request = _request(given)
    flags = {s.flag: s.value for s in request.values() if s.flag is not None}
    axes = {field: s.value for field, s in request.items() if s.flag is None}
    grid, notes = _asked_grid(table, flags, axes, given.data_root, quick=given.quick)
    if "tuned_from" in flags:
        grid, how = _tuned_grid(grid, given.store, flags["tuned_from"])
        notes = (*notes, *how)
    if grid.mixes and given.keep == "none":
        raise UsageError(
            "Expected --keep final or all with --mixes, got none: the forks' weights are mixed."
        )
    execution = replace(
        execution_of(given), local_data=_absolute(given.local_data), pack=_pack(given.pack)
    )
    has_gpus = _has_gpus(execution)
    is_idle = execution.pack == "auto" and has_gpus is False  # nothing to measure
    return Command(
        kind=kind,
        name=check_sweep_name(given.name),
        store=given.store,
        grid=grid,
        refine=flags.get("refine"),
        execution=replace(execution, pack=1) if is_idle else execution,
        runtime=Runtime(
            data_root=_absolute(given.data_root),
            keep=given.keep,
            checkpoint_seconds=given.checkpoint_seconds,
            cuda_graphs=given.cuda_graphs,
            encoder_weights_file=_absolute(given.encoder_weights),
            num_samples=given.num_samples,
            sample_epochs=tuple(given.sample_epochs),
        ),
        plan_only=given.plan,
        as_json=given.json,
        probe=given.probe,
        notes=(*notes, *pack_notes(execution.pack, has_gpus)),
        given={**vars(given), **flags},
    )


def _pack(text: str) -> Pack:
    """Return what `--pack` asks for."""
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"Expected --pack auto, or a number of runs from 1 on, got {text!r}.")
    return int(text)


def _has_gpus(execution: Execution) -> bool | None:
    """Return whether runs have GPUs; None where only the cluster knows. Asked for packs alone."""
    if execution.gpus_per_run is not None:
        return execution.gpus_per_run > 0
    if execution.pack == 1 or execution.address is not None:
        return None
    return num_gpus() > 0


def _asked_grid(
    table: Grid, flags: Mapping[str, Any], axes: Axes, data_root: str | None, *, quick: bool
) -> tuple[Grid, tuple[str, ...]]:
    """Return the table as flags and axes change it, and what the user should know of that."""
    axes, held_tasks = dataset_axes(axes, data_root)
    notes = []
    quick_fields: Mapping[str, Any] = defaults.QUICK_FIELDS
    if "preset" in flags:
        chosen = preset(flags["preset"])
        table, quick_fields = _preset_table(table, chosen), chosen.quick_fields
        if "data.name" not in axes:
            remedy = "Leave it out, or name other data with --dataset."
            check_has_tasks(chosen.data.name, chosen.data.tasks, flags.get("tasks", ()), remedy)
            notes.append(stand_in_note(chosen))
        elif held_tasks is not None:
            sides = (axes[f"data.{side}"][0] for side in ("height", "width"))
            check_size(chosen, axes["data.name"][0], *sides)
    if held_tasks is not None:
        tasks = flags.get("tasks", table.task_sets)
        check_has_tasks(axes["data.name"][0], held_tasks, tasks, "Name others with --tasks.")
        kept = {k: v for k, v in table.fields.items() if not k.startswith("data.")}
        table = replace(table, fields=kept)
    if quick:
        table, note = _quickened(table, quick_fields, flags, axes)
        notes.append(note)
    grid = replace(
        table,
        task_sets=tuple(map(tuple, flags.get("tasks", table.task_sets))),
        methods=_every_method(flags.get("methods", table.methods)),
        divisions=flags.get("divisions", table.divisions),
        seeds=flags.get("seeds", table.seeds),
        fields={k: v for k, v in table.fields.items() if k not in axes},
        axes={**table.axes, **axes},
        baselines=flags.get("baselines", table.baselines),
        refine_by=flags.get("refine_by", table.refine_by),
        fork_at=flags.get("fork_at", table.fork_at),
        mixes=flags.get("mixes", table.mixes),
        primary=flags.get("primary", table.primary),
    )
    check_grid(grid)
    if "refine" in flags:
        check_refinable(grid, flags["refine"])
    elif "refine_by" in flags:
        raise UsageError("Expected --refine-by together with --refine, got it alone.")
    return grid, (*notes, *left_out(grid))


def _tuned_grid(grid: Grid, address: str, sweep: str) -> tuple[Grid, list[str]]:
    from sweeps.plan.tuned import tuned_grid  # needs numpy

    store = existing_store(address)
    if store is None:
        raise UsageError(f"Expected a sweep after --tuned-from, got no store in {address}.")
    return tuned_grid(grid, store, sweep)


def _absolute(path: str | None) -> str | None:
    """Return a path that workers with another working folder understand."""
    return None if path is None else str(Path(path).expanduser().absolute())


def _every_method(names: Sequence[str]) -> tuple[str, ...]:
    every = tuple(TORCHJD + name for name in TORCHJD_METHODS)
    return tuple(m for name in names for m in (every if name == EVERY_TORCHJD else (name,)))


def _preset_table(table: Grid, chosen: Preset) -> Grid:
    """Return a sweep's table with the fields of a preset for its own.

    What the sweep varies stays, but for the encoders: a preset is the settings of one.
    """
    divisions = table.divisions
    return replace(
        table,
        task_sets=(chosen.tasks,),
        divisions=None if divisions is None else max(divisions, len(chosen.tasks)),
        fields=chosen.fields,
        axes={name: v for name, v in table.axes.items() if name != "network.encoder"},
    )


def _quickened(
    table: Grid, fields: Mapping[str, Any], flags: Mapping[str, Any], axes: Mapping[str, Any]
) -> tuple[Grid, str]:
    """Return the small version of `table`, and a sentence that says what shrank."""
    small = {name: v for name, v in {**fields, **table.quick}.items() if name not in axes}
    if "data.prepared" in axes:  # its images are as many as they are
        small = {name: v for name, v in small.items() if not name.startswith("data.")}
    changes = [f"{name} {v} instead of {table.fields[name]}" for name, v in small.items()]
    divisions, seeds = table.divisions, table.seeds
    if divisions is not None and "divisions" not in flags and "priorities" not in axes:
        largest = max(len(tasks) for tasks in flags.get("tasks", table.task_sets))
        divisions = max(defaults.QUICK_DIVISIONS, largest)
        if divisions != table.divisions:
            changes.append(f"divisions {divisions} instead of {table.divisions}")
    if "seeds" not in flags:
        seeds = defaults.QUICK_SEEDS
        changes.append(f"seeds {seeds} instead of {table.seeds}")
    quick = replace(table, divisions=divisions, seeds=seeds, fields={**table.fields, **small})
    return quick, f"--quick trains a small version: {', '.join(changes)}."
