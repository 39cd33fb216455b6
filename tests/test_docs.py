"""Every command of README and docs runs as it stands, unless it needs a cluster or a data set."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lsb import COMMANDS
from mtl.data.prepare.__main__ import main as prepare_main
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.training import fit
from tests.analysis.conftest import write_plan
from tests.conftest import tiny_fields

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
DATED = {"EXPERIMENTS.md"}
"""Its commands are those of their day."""
ELSEWHERE = (
    "--address",
    "://",
    "ray ",
    "srun",
    "NUM_RUNS",
    "--dashboard",
    "nyuv2",
    "taskonomy",
    "tests.benchmarks",
    "--serve",
    "huggingface",
    "mlflow",
    "wandb",
    "onnx",
    "smp:",
    "RUN_A",
)
"""Needs a cluster, object storage, a browser, a data set, or a tool that tests do not install."""
LONG_LINE = 130


def commands() -> list[str]:
    """Return the commands of all pages, without their comments, each once."""
    found: dict[str, None] = {}
    for page in PAGES:
        if page.name in DATED:
            continue
        text = re.sub(r"\\\n\s*", " ", page.read_text("utf-8"))
        lines = re.findall(r"^(?: {4})?((?:python|lsb) [^\n]*)$", text, re.M)
        found |= dict.fromkeys(re.sub(r"\s+#.*", "", line).strip() for line in lines)
    return [line for line in found if not any(word in line for word in ELSEWHERE)]


def main_of(words: list[str]) -> tuple[str, list[str]]:
    """Return the module of a command line and its arguments."""
    if words[0] == "lsb":
        return (COMMANDS[words[1]][0], words[2:]) if words[1] in COMMANDS else ("lsb", words[1:])
    if words[1] == "-m":
        module, arguments = words[2], words[3:]
        package = ROOT / module.replace(".", "/")
        return (f"{module}.__main__" if package.is_dir() else module), arguments
    return words[1].removesuffix(".py").replace("/", "."), words[2:]


def own_modules() -> dict[str, str]:
    """Return file name -> source of the modules of docs/extending.md."""
    page = (ROOT / "docs" / "extending.md").read_text("utf-8")
    return dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", page, re.M | re.S))


def write_store(folder: Path, seed: int, data_root: str) -> RunSpec:
    """Train four runs of one epoch, as a small grid that is planned and done; return the last."""
    store, run_ids = Store(folder), []
    for method in ("lsb", "fixed"):
        for priorities in ([0.25, 0.75], [0.75, 0.25]):
            fields = tiny_fields(epochs=1, method=method, priorities=priorities, seed=seed)
            spec = RunSpec.from_dict(fields)
            fit(spec, store, Runtime(device="cpu", data_root=data_root, sample_epochs=(1,)))
            run_ids.append(spec.run_id())
    write_plan(store, "priority_grid", run_ids)
    return spec


def write_images(folder: Path, yaml: str) -> None:
    """Write three splits of eight images with labels, described by `yaml`."""
    for number, split in enumerate(("train", "val", "test")):
        for kind in ("image", "label"):
            (folder / split / kind).mkdir(parents=True)
            shape = (48, 64, 3) if kind == "image" else (48, 64)
            for index in range(8):
                values = np.random.default_rng((number, index)).integers(0, 11, shape, np.uint8)
                Image.fromarray(values).save(folder / split / kind / f"{index}.png")
    (folder / "dataset.yaml").write_text(yaml)


def write_drive(folder: Path) -> None:
    """Write 48 frames whose mean brightness is the steering angle of log.csv."""
    folder.mkdir()
    lines = ["frame,split,angle"]
    for number in range(48):
        noise = np.random.default_rng(number).integers(0, 40, (24, 32, 3))
        Image.fromarray((noise + 4 * number).astype(np.uint8)).save(folder / f"{number}.png")
        split = ("train", "train", "validation", "test")[number // 12]
        lines.append(f"{number}.png,{split},{number - 24}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, data_root: str) -> Path:
    """Return a folder with everything that the commands name."""
    folder = tmp_path_factory.mktemp("docs")
    spec = write_store(folder / "results", 0, data_root)
    write_store(folder / "theirs", 1, data_root)
    (folder / "SPEC.json").write_text(json.dumps(spec.to_dict()))
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(picture).save(folder / "photo.jpg")
    lines = ["method,seed,priority_depth,priority_segmentation,delta1,miou"]
    lines += [
        f"{method},{seed},{p},{1 - p},{0.7 + p / 10},{0.8 - p / 10}"
        for method in ("lsb", "fixed")
        for seed in (0, 1)
        for p in (0.25, 0.5, 0.75)
    ]
    (folder / "anyones_results.csv").write_text("\n".join(lines) + "\n")
    own = "method,seed,priority_steering,priority_drowsiness,mae,p95,auroc"
    rows = [line.split(",") for line in lines[1:]]
    rows = [[*row[:4], str(3 - float(row[2])), "5", str(0.6 + float(row[3]) / 4)] for row in rows]
    (folder / "runs.csv").write_text("\n".join([own, *map(",".join, rows)]) + "\n")
    lines = ["algorithm,rmse,miou"]
    lines += [f"{name},{0.5 + n / 10},{0.6 - n / 10}" for n, name in enumerate(("lsb", "fixed"))]
    (folder / "trials.csv").write_text("\n".join(lines) + "\n")
    for name, text in own_modules().items():
        (folder / name).write_text(text)
    page = (ROOT / "docs" / "own-sweep.md").read_text("utf-8")
    (folder / "my_training.py").write_text(page.split("```python\n")[1].split("```")[0])
    yaml = re.search(r"<<'END'\n(.*?)\n +END", (ROOT / "docs" / "data.md").read_text("utf-8"), re.S)
    assert yaml is not None
    write_images(folder / "camvid", yaml[1])
    write_drive(folder / "drive")
    recipe = ["folder", "--source", str(folder / "camvid"), "--size", "48x64"]
    assert (
        prepare_main([*recipe, "--data-root", data_root, "--tasks", "segmentation", "edge2d"]) == 0
    )
    (prepared,) = Path(data_root).glob("folder-*/manifest.json")
    names = {"RUN_ID": spec.run_id(), "PREPARED": str(prepared.parent), "/data/mine": "camvid"}
    names["/data/drive"] = str(folder / "drive")
    (folder / "names.json").write_text(json.dumps(names))
    return folder


def test_readme_takes_two_screens() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 130
    assert max(map(len, lines)) <= LONG_LINE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text)
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing


@pytest.mark.slow
def test_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="no mkdocs: the site was not built")
    pytest.importorskip("mkdocstrings", reason="no mkdocstrings: the site was not built")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    reference = (tmp_path / "reference" / "index.html").read_text("utf-8")
    assert 'id="mtl.weighting.build_weighting"' in reference
    missing = [
        f"{page.relative_to(tmp_path)}: {link}"
        for page in tmp_path.rglob("*.html")
        for link in re.findall(r'(?:href|src)="([^"#?:]+)["#?]', page.read_text("utf-8"))
        if page.name != "404.html" and not (page.parent / link).exists()
    ]
    assert not missing


@pytest.mark.parametrize("command", commands())
def test_command_of_the_docs_runs(
    command: str,
    place: Path,
    data_root: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, held in json.loads((place / "names.json").read_text()).items():
        command = command.replace(name, held)
    module, arguments = main_of(shlex.split(command))
    others = ("sweeps.watch", "sweeps.export.__main__")
    is_sweep = module.startswith("sweeps.") and module not in others
    if is_sweep and "--plan" not in arguments:
        arguments += ["--plan"]
    if (is_sweep and module != "sweeps.own") or ".prepare" in module:
        arguments += ["--data-root", data_root]
    if ".prepare" in module:
        arguments += ["--workers", "1"]
    if "remove" in arguments:
        arguments += ["--yes"]
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    assert importlib.import_module(module).main(arguments) == 0, capsys.readouterr().err
