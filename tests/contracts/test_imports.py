"""Who may import whom, where import-linter cannot say it: allow-lists of outside packages."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What a bare GPU machine must have for one training; see the design's import rules.
MTL_NEEDS = {
    "torch", "timm", "numpy", "scipy", "h5py", "PIL", "pyarrow", "boto3", "botocore", "yaml",
    "jaxtyping", "rich", "argcomplete", "mtl",
    "huggingface_hub",  # which timm brings
    "lightning",  # for its callback alone
}  # fmt: skip


def imported_packages(path: Path) -> set[str]:
    """Return the top-level names that a module imports anywhere in its source."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names)


def test_one_training_needs_nothing_beyond_its_list() -> None:
    needed = {name for path in ROOT.glob("mtl/**/*.py") for name in imported_packages(path)}
    assert needed <= MTL_NEEDS


def test_ray_is_imported_in_the_launch_package_only() -> None:
    importers = {
        path.relative_to(ROOT)
        for room in ("mtl", "analysis", "sweeps")
        for path in (ROOT / room).rglob("*.py")
        if "ray" in imported_packages(path)
    }
    assert importers
    assert {path.parts[:2] for path in importers} == {("sweeps", "launch")}


@pytest.mark.parametrize("room", ["sweeps", "analysis"])
def test_no_script_shadows_the_standard_library(room: str) -> None:
    # A script's own folder comes first on the path.
    names = {path.stem for path in (ROOT / room).glob("*.py")} | {
        path.name for path in (ROOT / room).iterdir() if path.is_dir()
    }
    assert not names & set(sys.stdlib_module_names)


def test_package_root_is_empty() -> None:
    assert (ROOT / "mtl" / "__init__.py").read_text() == ""
