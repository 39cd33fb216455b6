"""The command `lsb`: its subcommands, their names, completion, and a package that is not ours."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lsb

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "sweeps" / "priority_grid.py"
EVERY = pytest.mark.parametrize("name", lsb.COMMANDS)


def by_itself(name):
    """Return how a subcommand is called without `lsb`, and its `main`."""
    module = lsb.COMMANDS[name][0]
    package, _, script = module.removesuffix(".__main__").rpartition(".")
    is_script = package in ("sweeps", "analysis") and name not in ("own", "track")
    own = f"{script}.py" if is_script else f"python -m {package}.{script}"
    return own, import_module(module).main


def process(*words, cwd=ROOT, **environment):
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=os.environ | environment,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_every_script_has_a_subcommand():
    scripts = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("sweeps", "analysis", "mtl")
        for path in (ROOT / package).rglob("*.py")
        if "\ndef main(" in path.read_text("utf-8")
    }
    assert scripts == {module for module, _ in lsb.COMMANDS.values()}


@EVERY
def test_help_names_the_command_as_it_was_called(name, capsys):
    own, main = by_itself(name)
    for called, call in (
        (f"lsb {name}", lambda: lsb.main([name, "--help"])),
        (own, lambda: main(["--help"])),
    ):
        with pytest.raises(SystemExit) as ended:
            call()
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: {called} [-h]")


@EVERY
def test_message_names_the_command_as_it_was_called(name, capsys):
    own, main = by_itself(name)
    assert lsb.main([name, "--such-an-option"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"lsb {name}: ")
    assert said.endswith(f" See lsb {name} --help.\n")
    assert main(["--such-an-option"]) == 2
    assert capsys.readouterr().err.endswith(f" See {own} --help.\n")


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        lsb.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(f" {name} {does}" in text for name, (_, does) in lsb.COMMANDS.items())


@pytest.mark.parametrize(
    ("argv", "says"), [([], "A command or --version is required"), (["gird"], "'grid', 'rates'")]
)
def test_without_a_known_command_it_is_wrong_usage(argv, says, capsys):
    assert lsb.main(argv) == 2
    captured = capsys.readouterr()
    assert (captured.out, says in captured.err) == ("", True)
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "heavy"),
    [("grid", "torch ray pandas numpy argcomplete"), ("report", "torch ray argcomplete")],
)
def test_a_command_imports_its_own_module_alone(name, heavy):
    code = (
        "import contextlib, sys, lsb\n"
        f"with contextlib.suppress(SystemExit): lsb.main([{name!r}, '--help'])\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    ended = process("-c", code)
    loaded = set(ended.stderr.split())
    assert loaded & {module for module, _ in lsb.COMMANDS.values()} == {lsb.COMMANDS[name][0]}
    assert not loaded & set(heavy.split())


@pytest.mark.parametrize(
    ("line", "first", "expected"),
    [
        ("lsb re", 1, {"report"}),
        ("lsb --ver", 1, {"--version"}),
        ("lsb grid --div", 1, {"--divisions"}),
        ("python -m lsb grid --keep ", 3, {"none", "final", "all"}),
        ("lsb report results --m", 1, {"--metrics"}),
        ("lsb store ve", 1, {"verify"}),
        ("lsb store list --st", 1, {"--state"}),
    ],
)
def test_shell_completes_commands_and_their_options(line, first, expected, tmp_path):
    asked = {
        "_ARGCOMPLETE": str(first), "_ARGCOMPLETE_IFS": "\v", "COMP_LINE": line,
        "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer"),
    }  # fmt: skip
    ended = process("-m", "lsb", **asked)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    words = (tmp_path / "answer").read_text().split("\v")
    assert {word.strip() for word in words} == expected


@pytest.fixture(params=["raise AttributeError('np.float')\n", "__version__ = '0.3.0'\n"])
def foreign(request, tmp_path):
    """Return a folder with a package `sweeps` of somebody else, first on the path."""
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "__init__.py").write_text(request.param)
    return str(tmp_path)


def test_somebody_elses_sweeps_is_told_in_a_sentence(foreign, tmp_path):
    ended = process("-m", "lsb", "grid", "--plan", cwd=tmp_path, PYTHONPATH=foreign)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(
        "lsb grid: Expected this project's package sweeps, got "
        f"{tmp_path / 'sweeps' / '__init__.py'} of another distribution. Uninstall that one"
    )
    assert len(ended.stderr.splitlines()) == 1
    # What needs no sweep works beside it.
    other = process("-m", "lsb", "report", "--help", cwd=tmp_path, PYTHONPATH=foreign)
    assert other.returncode == 0


def test_script_runs_its_own_checkout_beside_somebody_elses_sweeps(foreign, tmp_path):
    plan = [str(SCRIPT), "--plan", "--store", str(tmp_path / "store"), "--quick"]
    ended = process(*plan, PYTHONPATH=foreign)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("6 runs: ")
