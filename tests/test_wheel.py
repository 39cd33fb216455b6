"""The wheel: what it holds, and that it works where there is no checkout."""

import json
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("analysis", "mtl", "sweeps")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TINY = [
    "--divisions", "2", "--methods", "lsb", "fixed", "--seeds", "1", "--epochs", "2",
    "--set", "data.num_train=8", "data.num_validation=4", "data.num_test=4", "data.height=32",
    "data.width=32", "network.decoder_widths=8,8,8,8,8,8",
]  # fmt: skip


def run(*words, cwd, **environment):
    ended = subprocess.run(
        list(map(str, words)), cwd=cwd, env={**os.environ, "PYTHONPATH": "", **environment},
        capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel of the checkout, in which building it leaves nothing."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "lsb.py", *PACKAGES):
        (source / name).symlink_to(ROOT / name)
    build = "from setuptools import build_meta; build_meta.build_wheel(r'{}')"
    subprocess.run(
        [sys.executable, "-c", build.format(folder)], cwd=source, check=True, capture_output=True
    )
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_every_file_of_the_packages(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == files | {"lsb.py"}
    assert {f"{package}/py.typed" for package in PACKAGES} <= held
    assert {"analysis/templates/report.html.j2", "sweeps/plan/cost_model.json"} <= held


def test_version_and_command_are_those_of_pyproject(wheel):
    with zipfile.ZipFile(wheel) as held:
        folder = f"loss_scale_balancing-{PROJECT['version']}.dist-info"
        assert "lsb = lsb:main" in held.read(f"{folder}/entry_points.txt").decode()
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert changes.partition("\n## ")[2].startswith(f"{PROJECT['version']}\n")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the programs of an environment that has the wheel and this one's other packages."""
    folder = tmp_path_factory.mktemp("environment")
    # The environment lies in a checkout of something else, as those of many projects do.
    subprocess.run(["git", "init", "-q", folder], check=True)
    venv.create(folder / "venv", with_pip=False)
    bin_folder = folder / "venv" / "bin"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", bin_folder / "python", "install", "-q",
         "--no-deps", "--no-index", "--disable-pip-version-check", wheel], check=True,
    )  # fmt: skip
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    # Plain lines: an editable installation among those packages does not come along.
    others = [place for place in sys.path if Path(place).name == "site-packages"]
    (site / "others.pth").write_text("\n".join(others) + "\n")
    return bin_folder


@pytest.mark.slow
def test_installed_weighting_loads_torch_alone(installed, tmp_path):
    code = (
        "import json, sys, mtl.weighting\n"
        "print(json.dumps([mtl.weighting.__file__, *(set(sys.modules) "
        "& {'torch', 'torchvision', 'timm', 'ray', 'pandas', 'plotly', 'optuna', 'pyarrow'})]))"
    )
    file, *loaded = json.loads(run(installed / "python", "-c", code, cwd=tmp_path))
    assert file.startswith(str(installed.parent))
    assert loaded == ["torch"]


@pytest.mark.slow
def test_installed_wheel_trains_reports_and_predicts(installed, tmp_path):
    lsb = installed / "lsb"
    assert run(lsb, "--version", cwd=tmp_path) == f"lsb {PROJECT['version']}\n"
    said = run(lsb, "grid", *TINY, "--data-root", "data", cwd=tmp_path)
    assert "2 of 2 runs done." in said
    assert (tmp_path / "results/sweeps/priority_grid/report/report.html").exists()
    run(lsb, "report", "results", "--out", "again", "--static", cwd=tmp_path)
    assert (tmp_path / "again" / "report.html").exists()
    listed = json.loads(run(lsb, "store", "list", "results", "--json", cwd=tmp_path))
    assert {run["state"] for run in listed} == {"done"}
    assert "no damage" in run(lsb, "store", "verify", "results", cwd=tmp_path)
    assert "lsb" in run(lsb, "rank", "results", cwd=tmp_path)
    manifests = [*tmp_path.glob("results/runs/*/manifest.json")]
    versions = {json.loads(path.read_text())["code_version"] for path in manifests}
    assert versions == {PROJECT["version"]}
