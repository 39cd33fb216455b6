"""Code from outside is known by the hash of its source, found without being executed."""

import importlib
import shutil
import sys
from pathlib import Path

import pytest

from mtl.spec import RunSpec
from mtl.spec.code import (
    _LOADED,
    check_code,
    code_hash,
    code_path,
    is_reference,
    load_object,
    top_module,
)

SOURCE = "class Huber:\n    delta = 1.0\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_reference_is_a_module_and_a_name():
    for name in ("tools:Huber", "tools.losses:Huber", "_a.b1:_C"):
        assert is_reference(name)
    for name in (
        "lsb",
        "torchjd:UPGrad",
        "tools:",
        ":Huber",
        "a:b:c",
        "a b:C",
        "a/b:C",
        "a:b.c",
        3,
    ):
        assert not is_reference(name)
    assert top_module("tools.losses:Huber") == "tools"


def test_hash_is_of_the_source_not_of_its_place_or_line_ends(folder):
    (folder / "code_one.py").write_text(SOURCE)
    (folder / "code_two.py").write_bytes(SOURCE.replace("\n", "\r\n").encode())
    (folder / "code_three.py").write_text(SOURCE.replace("1.0", "2.0"))
    one, two, three = (code_hash(f"code_{name}") for name in ("one", "two", "three"))
    assert one == two != three
    assert len(one) == 16


def test_package_is_all_its_python_files_and_is_not_executed(folder):
    package = folder / "code_package"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('executed')")
    (package / "sub" / "losses.py").write_text(SOURCE)
    first = code_hash("code_package")
    (package / "notes.txt").write_text("of no account")
    assert code_hash("code_package") == first
    shutil.move(package / "sub" / "losses.py", package / "losses.py")
    assert code_hash("code_package") != first
    assert code_path("code_package") == package
    assert "code_package" not in sys.modules


def test_module_in_the_working_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "code_here.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_object("code_here:Huber", "loss").delta == 1.0


@pytest.mark.parametrize("module", ["absent_module", "__main__", "math", "folder_without_init"])
def test_module_without_source_is_one_sentence(folder, module):
    (folder / "folder_without_init").mkdir()
    with pytest.raises(ValueError, match=f"Expected a module '{module}' with Python source"):
        code_hash(module)


def test_unknown_name_lists_what_the_module_has(folder):
    (folder / "code_names.py").write_text(SOURCE + "_hidden = 1\n")
    with pytest.raises(ValueError, match=r"Unknown loss 'Hubert' in code_names. .* has: Huber\.$"):
        load_object("code_names:Hubert", "loss")


def test_module_that_raises_at_import_is_one_sentence_and_can_be_mended(folder):
    (folder / "code_raises.py").write_text("raise RuntimeError('no licence\\nhere')")
    with pytest.raises(ValueError, match="to import, got RuntimeError: no licence.here") as caught:
        load_object("code_raises:Huber", "loss")
    assert "\n" not in str(caught.value)
    (folder / "code_raises.py").write_text(SOURCE)
    assert load_object("code_raises:Huber", "loss").delta == 1.0


def test_code_edited_after_its_import_is_refused(folder):
    file = folder / "code_edited.py"
    file.write_text(SOURCE)
    load_object("code_edited:Huber", "loss")
    file.write_text(SOURCE.replace("1.0", "2.0"))
    with pytest.raises(ValueError, match="edited .*code_edited.py. Restart"):
        load_object("code_edited:Huber", "loss")


def test_code_edited_after_somebody_else_imported_it_is_refused(folder, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = folder / "code_theirs.py"
    file.write_text(SOURCE)
    assert importlib.import_module("code_theirs").Huber.delta == 1.0
    assert load_object("code_theirs:Huber", "loss").delta == 1.0
    _LOADED.clear()
    file.write_text(SOURCE.replace("1.0", "22.0"))
    for use in (load_object, lambda *_: check_code({"code_theirs": code_hash("code_theirs")})):
        with pytest.raises(ValueError, match="edited .*code_theirs.py. Restart"):
            use("code_theirs:Huber", "loss")


def test_hidden_folders_are_no_code_of_a_package(folder):
    package = folder / "code_noted"
    (package / ".ipynb_checkpoints").mkdir(parents=True)
    (package / "__init__.py").write_text(SOURCE)
    before = code_hash("code_noted")
    (package / ".ipynb_checkpoints" / "losses-checkpoint.py").write_text("old = 1")
    assert code_hash("code_noted") == before


def test_code_that_is_not_the_planned_one_is_refused(folder):
    (folder / "code_planned.py").write_text(SOURCE)
    check_code({"code_planned": code_hash("code_planned")})
    with pytest.raises(ValueError, match="source of 'code_planned' with hash 0123456789abcdef"):
        check_code({"code_planned": "0123456789abcdef"})


def test_code_enters_the_identity_and_none_is_neutral():
    spec = RunSpec(code={"tools": "0123456789abcdef"})
    assert RunSpec(code={}).run_id() == RunSpec().run_id() != spec.run_id()
    assert RunSpec.from_dict(spec.to_dict()) == spec
    for code in ({"tools": "0123"}, {"a/b": "0123456789abcdef"}):
        with pytest.raises(ValueError, match="Expected code to map names of modules"):
            RunSpec(code=code)
