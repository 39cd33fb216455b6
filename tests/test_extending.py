"""Parts from outside train, resume and plan as the package's own; docs/extending.md holds them."""

import importlib
import sys
from pathlib import Path

import pytest

from mtl.spec import RunSpec, Runtime, code
from mtl.spec.methods import needs_of
from mtl.store import Store
from mtl.training import fit
from mtl.weighting import build_weighting
from tests.test_docs import own_modules
from tests.training.runs import assert_resumes, tiny

MAX_LINES = 40


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder, on Python's path, with the modules of docs/extending.md."""
    forget_modules()
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, text in own_modules().items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def runtime(data_root: str) -> Runtime:
    return Runtime(device="cpu", data_root=data_root, num_samples=1)


def forget_modules() -> None:
    """Forget what was imported from outside, as another process has not imported it."""
    for module in [*code._LOADED]:
        del sys.modules[module]
    code._LOADED.clear()
    importlib.invalidate_caches()


def written(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)


@pytest.mark.parametrize("name", own_modules())
def test_module_of_the_docs_is_short(name):
    assert len([line for line in own_modules()[name].splitlines() if line.strip()]) <= MAX_LINES


# A method.


def test_own_method_trains_and_resumes_bit_for_bit(modules, runtime, tmp_path):
    spec = tiny(method="focal:Focal", priorities=[0.25, 0.75])
    assert spec.method_options == {"power": 0.5}
    assert set(spec.code) == {"focal"}
    records = assert_resumes(spec, runtime, tmp_path)
    weights = [record.weights for record in records]
    assert weights[0] == [0.25, 0.75]
    means = records[0].losses
    assert weights[1] == pytest.approx([0.25 * means[0] ** 0.5, 0.75 * means[1] ** 0.5])


def test_own_method_in_a_loop_of_ones_own(modules):
    weighting = build_weighting("focal:Focal", tasks=("a", "b"), power=1.0)
    assert weighting.weights.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="Unknown option 'powr' of method 'focal:Focal'"):
        build_weighting("focal:Focal", tasks=("a", "b"), powr=1.0)


def test_edit_makes_a_new_run_and_undoing_it_the_old_one(modules):
    source = (modules / "focal.py").read_text()
    before = tiny(method="focal:Focal").run_id()
    written(modules, "focal", source.replace("hard tasks", "difficult tasks"))
    with pytest.raises(ValueError, match="Restart Python"):
        tiny(method="focal:Focal")
    forget_modules()
    assert tiny(method="focal:Focal").run_id() != before
    written(modules, "focal", source)
    forget_modules()
    assert tiny(method="focal:Focal").run_id() == before


def test_worker_with_other_code_refuses_and_nothing_is_written(modules, runtime, tmp_path):
    spec = tiny(method="focal:Focal")
    written(modules, "focal", (modules / "focal.py").read_text() + "\n# edited\n")
    store = Store(tmp_path / "store")
    with pytest.raises(ValueError, match="Expected the source of 'focal' with hash .* plan again"):
        fit(spec, store, runtime)
    assert store.run_ids() == []


def test_reading_a_spec_does_not_need_the_module():
    spec = RunSpec(method="gone:Lost", code={"gone": "0123456789abcdef"}, priorities=(0.3, 0.7))
    assert RunSpec.from_dict(spec.to_dict()) == spec
    assert spec.method_settings == {}
    assert "gone" not in sys.modules


def test_method_that_does_not_say_what_it_needs_is_one_sentence(modules):
    written(modules, "needless", "class Mine:\n    pass\n")
    with pytest.raises(ValueError, match="Expected a Weighting with `needs = MethodNeeds"):
        needs_of("needless:Mine")
    with pytest.raises(ValueError, match="Unknown method 'Fokal' in focal. .*has: Focal, Meth"):
        tiny(method="focal:Fokal")
