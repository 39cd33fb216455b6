"""What one GPU gives: `python -m tests.benchmarks gpu [--device cpu] [--minutes 12]`.

Needs torch, timm, numpy and what else `mtl` imports for scenes (jaxtyping, scipy, pillow, pyyaml);
no Ray, no install.
It checks that a GPU's losses are the CPU's within a tolerance, runs the tests marked `gpu` where
there is pytest, and measures images a second of whole training steps on rendered scenes: one run as
it was first written (copies that wait), then with each of what makes it fast, then several at once.
On the CPU everything is smaller, which shows that the script works and nothing else.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mtl.data.batches import Split, Stored
from mtl.data.prepared import prepare
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.training import fit
from mtl.training.fit import Common, Run
from mtl.training.manifest import execution, gpu_driver, network_size
from mtl.training.pack import Lane, shared_batches
from sweeps.plan.fields import nested
from sweeps.plan.presets import PRESETS

ROOT = Path(__file__).parents[2]
BENCHMARKED = ("nyuv2_mobilenet", "nyuv2_pnasnet", "taskonomy_8")
TOLERANCES = {"float32": 0.02, "bf16": 0.1}
"""By which share a GPU's losses may differ from the CPU's."""
TINY: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 4,
    "data": {"height": 32, "width": 32, "num_train": 8, "num_validation": 4, "num_test": 4},
    "network": {"encoder_stride": 8, "decoder_widths": [8] * 6},
    "optimizer": {"learning_rate": 1e-3},
}
MIN_BUSY_SHARE = 0.8
"""Of the time; below it the GPU waits for the host, which launches its work."""


@dataclass(frozen=True)
class Sizes:
    """How large what is measured is."""

    num_train: int
    """Images of an epoch."""
    seconds: float
    """For which steps are timed, an epoch at least."""
    warm_up: int = 2
    """Epochs before that which do not count: they build what later ones use."""
    side: int | None = None
    """Height and width of images; None: the preset's."""
    batch_size: int | None = None
    """None: the preset's."""
    processes: tuple[int, ...] = (2, 4, 8)
    """How many runs share the device, each a process."""
    packs: tuple[int, ...] = (2, 4, 8)
    """How many runs share the device, all in one process."""
    matrix: int = 8192
    """Side of the matrices that say what the device can do."""
    presets: tuple[str, ...] = BENCHMARKED


FULL = Sizes(num_train=64, seconds=6.0)
ON_THE_CPU = Sizes(2, 0.0, 1, side=32, batch_size=2, processes=(2,), packs=(2,), matrix=512)


class _Blocking(Split):
    """Reads a batch and copies it to the device, which waits for it: how it was first written."""

    place = "copied"

    def stored(self, batches: Sequence[np.ndarray], device: torch.device) -> Iterator[Stored]:
        for rows in batches:
            yield {
                name: torch.from_numpy(array[rows]).to(device)
                for name, array in self._arrays.items()
            }


def _blocking(split: Split, device: torch.device) -> Split:
    return _Blocking(split._arrays, split.tasks, split._derived)


def _mapped(split: Split, device: torch.device) -> Split:
    return split


@dataclass(frozen=True)
class Way:
    """How a run is trained."""

    name: str
    placed: Callable[[Split, torch.device], Split] | None
    """In place of `mtl.data.batches.placed`, which puts data on the device where they fit."""
    graphed: bool = False
    """Whether steps are CUDA graphs where they can be."""
    precision: str = "tf32"


WAYS = (
    Way("eager, copies that wait", _blocking),
    Way("eager, pinned copies", _mapped),
    Way("+ data on the device", None),
    Way("+ CUDA graph", None, graphed=True),
    Way("+ CUDA graph, in float32", None, graphed=True, precision="float32"),
    Way("+ bf16", None, graphed=True, precision="bf16"),
)
"""Each with what those before it have, in TF32 unless it says otherwise."""


def spec_of(preset: str, way: Way, sizes: Sizes) -> RunSpec:
    """Return a run of a preset at these sizes, its encoder random: nothing is downloaded."""
    fields: dict[str, Any] = {
        **PRESETS[preset].fields,
        "tasks": PRESETS[preset].tasks,
        "network.encoder_weights": "random",
        "precision": way.precision,
        "data.num_train": sizes.num_train,
        "data.num_validation": 1,
        "data.num_test": 1,
    }
    if sizes.side is not None:
        fields |= {"data.height": sizes.side, "data.width": sizes.side}
    if sizes.batch_size is not None:
        fields["batch_size"] = sizes.batch_size
    return RunSpec.from_dict(nested(fields))


@contextlib.contextmanager
def runs_of(
    spec: RunSpec, way: Way, device: str, data_root: str, lanes: Sequence[Lane]
) -> Iterator[list[Run]]:
    """Yield as many runs as lanes, ready to train on `device` from data that they share."""
    prepare(spec.data, data_root, num_workers=len(os.sched_getaffinity(0)))
    with contextlib.ExitStack() as stack:
        if way.placed is not None:
            stack.enter_context(patch("mtl.training.fit.placed", way.placed))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        runtime = Runtime(device=device, data_root=data_root, cuda_graphs=way.graphed)
        common, store, runs = Common(), Store(f"{folder}/store"), []
        for lane in lanes:
            with lane.turn():
                runs.append(Run(spec, store, runtime, common))
        yield runs


@contextlib.contextmanager
def run_of(spec: RunSpec, way: Way, device: str, data_root: str) -> Iterator[Run]:
    """Yield a run that is ready to train on `device`, its data prepared."""
    with runs_of(spec, way, device, data_root, [Lane(torch.device("cpu"))]) as (run,):
        yield run


def train_together(runs: Sequence[Run], lanes: Sequence[Lane]) -> None:
    """Take the steps of an epoch of runs that share their batches, as a pack does."""
    for run, lane in zip(runs, lanes, strict=True):
        with lane.turn():
            run.begin_epoch(1)
    for batch in shared_batches(runs[0].batches(), lanes):
        for run, lane in zip(runs, lanes, strict=True):
            with lane.turn():
                run.step(batch)


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def images_per_second(
    train_epoch: Callable[[], None],
    sizes: Sizes,
    device: torch.device,
    ready: Callable[[], None] = lambda: None,
) -> float:
    """Train epochs; return how many images a run saw in a second. `ready` is called before."""
    for _ in range(sizes.warm_up):
        train_epoch()
    synchronize(device)
    ready()
    start, epochs = time.perf_counter(), 0
    while epochs == 0 or time.perf_counter() - start < sizes.seconds:
        train_epoch()
        synchronize(device)
        epochs += 1
    return epochs * sizes.num_train / (time.perf_counter() - start)


@dataclass(frozen=True)
class Row:
    """What one way of training a preset gave."""

    way: str
    rate: float | None = None
    """Images a second of all runs together; None: not measured."""
    note: str = ""
    """Why it was not measured, or what else is to say."""


def one_run(
    preset: str, way: Way, sizes: Sizes, device: str, data_root: str, peaks: "dict[str, float]"
) -> Row:
    """Measure one run; say its share of the roofline, its memory and what bounds it."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with run_of(spec_of(preset, way, sizes), way, device, data_root) as run:
        rate = images_per_second(lambda: run.train_steps(1), sizes, run.device)
        flops = 3 * network_size(run.network, run.spec, run.device)["forward_flops"]
        kind = arithmetic(run)
        notes = [
            run.steps_to_text(),
            f"{rate * flops / peaks[kind]:.1%} of the {kind} roofline",
            bound(run, sizes.num_train / rate),
        ]
        if device == "cuda":
            notes.append(f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
    return Row(way.name, rate, "; ".join(notes))


def arithmetic(run: Run) -> str:
    """Return in what the convolutions of a run are computed: a key of `roofline`."""
    held = execution(run.spec, run.device)
    if held["precision"] == "bf16":
        return "bf16"
    return "tf32" if held.get("float32_convolutions") == "tf32" else "float32"


def roofline(side: int, device: torch.device) -> dict[str, float]:
    """Return arithmetic -> operations a second that products of large matrices reach here."""
    reached = {}
    kinds = {"float32": torch.float32, "bf16": torch.bfloat16}
    kinds |= {"tf32": torch.float32} if device.type == "cuda" else {}
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    for name, dtype in kinds.items():
        matmul.fp32_precision = "tf32" if name == "tf32" else "ieee"
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        reached[name] = max(_products_per_second(left, right) for _ in range(5)) * 2 * side**3
    matmul.fp32_precision = before
    return reached


def _products_per_second(left: Tensor, right: Tensor) -> float:
    times = 4
    synchronize(left.device)
    start = time.perf_counter()
    for _ in range(times):
        left @ right
    synchronize(left.device)
    return times / (time.perf_counter() - start)


CONVOLVING = ("conv", "gemm", "cutlass", "xmma", "wgrad", "dgrad", "cudnn", "mm")
"""Parts of the names of kernels and operations whose work grows with what is convolved."""


def bound(run: Run, wall: float) -> str:
    """Return what bounds a run's steps, by torch's profiler over an epoch.

    Without it, as it slows the host down, an epoch takes `wall` seconds.
    """
    is_gpu = run.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
    with profile(activities=activities) as profiler:
        run.train_steps(1)
        synchronize(run.device)
    times = {}
    for event in profiler.key_averages():
        on_device = event.device_type == torch.autograd.DeviceType.CUDA
        if on_device == is_gpu:
            taken = event.self_device_time_total if is_gpu else event.self_cpu_time_total
            times[event.key] = times.get(event.key, 0.0) + taken / 1e6
    busy = sum(times.values())
    convolving = sum(
        seconds
        for name, seconds in times.items()
        if any(part in name.lower() for part in CONVOLVING)
    )
    shares = f"convolutions {convolving / busy:.0%} of its work" if busy else "no work seen"
    if is_gpu and busy < MIN_BUSY_SHARE * wall:
        return f"bound by the host: GPU busy {busy / wall:.0%} of the time, {shares}"
    return f"bound by {'arithmetic' if convolving > busy / 2 else 'memory'}: {shares}"


def several_runs(
    preset: str,
    way: Way,
    count: int,
    sizes: Sizes,
    device: str,
    data_root: str,
    seconds_left: float,
) -> Row:
    """Measure `count` runs at once, each a process, as `--gpus-per-run 1/count` has them."""
    name = f"{count} processes, {way.name}"
    asked = json.dumps([preset, WAYS.index(way), asdict(sizes), device, data_root])
    command = [sys.executable, "-m", "tests.benchmarks.gpu", "--member", asked]
    members = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(count)
    ]
    end = time.monotonic() + seconds_left
    try:
        for member in members:
            assert member.stdout is not None
            if not member.stdout.readline():  # it ended before it was ready
                _, said = member.communicate()
                return Row(name, note=f"not measured: {said.strip().splitlines()[-1][:200]}")
        for member in members:
            assert member.stdin is not None
            member.stdin.write("go\n")
            member.stdin.flush()
        rates = [
            float(member.communicate(timeout=max(1.0, end - time.monotonic()))[0])
            for member in members
        ]
    except (subprocess.TimeoutExpired, ValueError) as error:
        return Row(name, note=f"not measured: {type(error).__name__}")
    finally:
        for member in members:
            if member.poll() is None:
                member.kill()
                member.communicate()
    return Row(name, sum(rates), f"{min(rates):.3g} to {max(rates):.3g} each")


def packed_runs(
    preset: str, way: Way, count: int, sizes: Sizes, device: str, data_root: str
) -> Row:
    """Measure `count` runs that train together in this process, as `--pack` has them."""
    where = torch.device(device)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    lanes = [Lane(where) for _ in range(count)]
    with runs_of(spec_of(preset, way, sizes), way, device, data_root, lanes) as runs:
        rate = count * images_per_second(lambda: train_together(runs, lanes), sizes, where)
        note = runs[0].steps_to_text()
        if device == "cuda":
            note += f"; {torch.cuda.max_memory_allocated() / 1e9:.1f} GB"
    return Row(f"{count} packed, {way.name}", rate, note)


def _member(asked: str) -> None:
    """Be one of several runs: say when ready, begin when told, and print the rate."""
    preset, index, sizes, device, data_root = json.loads(asked)
    way = WAYS[index]
    held = Sizes(**{name: tuple(v) if isinstance(v, list) else v for name, v in sizes.items()})

    def ready() -> None:
        print("ready", flush=True)
        sys.stdin.readline()

    with run_of(spec_of(preset, way, held), way, device, data_root) as run:
        print(images_per_second(lambda: run.train_steps(1), held, run.device, ready))


@contextlib.contextmanager
def process_service() -> Iterator[str | None]:
    """Run NVIDIA's multi-process service (MPS) meanwhile; yield why it does not run, if so."""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        yield "no nvidia-cuda-mps-control on this machine"
        return
    with tempfile.TemporaryDirectory() as folder:
        where = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        with patch.dict(os.environ, where):
            started = subprocess.run([control, "-d"], capture_output=True, text=True)
            if started.returncode != 0:
                yield f"it did not start: {started.stderr.strip()[:200]}"
                return
            try:
                yield None
            finally:
                subprocess.run([control], input="quit\n", text=True, capture_output=True)


def check_equality(device: str, data_root: str) -> list[str]:
    """Return, for each precision, by how much the losses on `device` differ from the CPU's."""
    lines = []
    expected = _losses("float32", "cpu", data_root)
    for precision, tolerance in TOLERANCES.items():
        found = _losses(precision, device, data_root)
        worst = float(np.abs(found / expected - 1).max())
        verdict = "as it must be" if worst <= tolerance else "TOO MUCH"
        lines.append(
            f"{precision} on {device} against float32 on the CPU: losses differ by {worst:.2%} at "
            f"most, {verdict} (allowed: {tolerance:.0%})"
        )
    return lines


def _losses(precision: str, device: str, data_root: str) -> np.ndarray:
    spec = RunSpec.from_dict({**TINY, "precision": precision})
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        fit(spec, store, Runtime(device=device, data_root=data_root, num_samples=0))
        return np.array([record.losses for record in store.epochs(spec.run_id())])


def gpu_tests(seconds: float) -> str:
    """Run the tests marked `gpu`; return the last line that pytest prints, or why it did not."""
    if importlib.util.find_spec("pytest") is None:
        return "not run: no pytest here"
    marked = [
        str(path)
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "@pytest.mark.gpu" in path.read_text("utf-8")
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *marked]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"not finished within {seconds:.0f} s"
    lines = (done.stdout.strip() or done.stderr.strip() or "no output").splitlines()
    return f"{lines[-1]} (exit status {done.returncode})"


def measure(
    preset: str,
    sizes: Sizes,
    device: str,
    data_root: str,
    peaks: dict[str, float],
    seconds_left: Callable[[], float],
) -> list[Row]:
    """Measure a preset in every way and print each row as it is known."""
    rows: list[Row] = []

    def add(name: str, row: Callable[[], Row]) -> None:
        try:
            rows.append(row() if seconds_left() > 0 else Row(name, note="no time was left"))
        except torch.OutOfMemoryError:
            rows.append(Row(name, note="not measured: out of memory"))
        _print_row(rows[-1], rows[0])

    print(f"\n{preset}: {spec_of(preset, WAYS[0], sizes).batch_size} images a step")
    for way in WAYS:
        add(way.name, lambda way=way: one_run(preset, way, sizes, device, data_root, peaks))
    _, best = max((row.rate or 0.0, way.name) for row, way in zip(rows, WAYS, strict=True))
    fastest = next(way for way in WAYS if way.name == best)

    def several(count: int) -> Row:
        left = seconds_left()
        return several_runs(preset, fastest, count, sizes, device, data_root, left)

    for count in sizes.processes:
        add(f"{count} processes", lambda count=count: several(count))
    with process_service() as missing:
        name = "4 processes under MPS"
        if missing is None:
            add(name, lambda: replace(several(4), way=name))
        else:
            add(name, lambda: Row(name, note=f"not measured: {missing}"))
    for count in sizes.packs:
        add(
            f"{count} packed in one process",
            lambda count=count: packed_runs(preset, fastest, count, sizes, device, data_root),
        )
    return rows


def _print_row(row: Row, first: Row) -> None:
    if row.rate is None:
        print(f"  {row.way:<38} {row.note}", flush=True)
        return
    ratio = f"{row.rate / first.rate:5.2f} x" if first.rate else ""
    print(f"  {row.way:<38} {row.rate:9.4g} images/s {ratio}  {row.note}", flush=True)


def measure_all(device: str, minutes: float, sizes: Sizes) -> list[Row]:
    """Do all of it within so many minutes; return the rows of all presets."""
    end = time.monotonic() + 60 * minutes
    where = torch.device(device)
    name = platform.processor() or platform.machine()
    if device == "cuda":
        name = f"{torch.cuda.get_device_name()}, driver {gpu_driver()}"
    print(f"{name}; torch {torch.__version__}, {torch.get_num_threads()} threads on the host")
    if sizes is ON_THE_CPU:
        print(f"On the CPU everything is smaller and says nothing of a GPU: {sizes}")
    rows = []
    with tempfile.TemporaryDirectory() as data_root:
        print("\n".join(check_equality(device, data_root)))
        print(f"tests marked gpu: {gpu_tests(max(1.0, min(180.0, end - time.monotonic())))}")
        peaks = roofline(sizes.matrix, where)
        reached = ", ".join(f"{kind} {rate / 1e12:.4g}" for kind, rate in peaks.items())
        print(f"roofline, by products of large matrices, TFLOP/s: {reached}")
        for preset in sizes.presets:
            rows += measure(preset, sizes, device, data_root, peaks, lambda: end - time.monotonic())
    return rows


def main(argv: Sequence[str]) -> int:
    """Run the script; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=12.0, help="at most (12)")
    parser.add_argument("--member", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.member:
        _member(given.member)
        return 0
    if given.device == "cuda" and not torch.cuda.is_available():
        print("Expected a CUDA GPU, found none. Use --device cpu to see the script work.")
        return 1
    measure_all(given.device, given.minutes, FULL if given.device == "cuda" else ON_THE_CPU)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
