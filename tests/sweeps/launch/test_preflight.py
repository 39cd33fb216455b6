"""What is compared before a sweep starts: one clear sentence that names the node, or nothing."""

import dataclasses
import shutil

import pytest

from mtl.data.prepared import prepare
from mtl.spec.sections import DataSpec
from sweeps.launch.preflight import (
    Checked,
    Needs,
    NodeReport,
    PreflightError,
    check_newcomer,
    check_nodes,
    check_shared,
    check_store_disk,
    look_around,
    project_hash,
    remove_probes,
    seen_probes,
    versions,
)

ALIKE = {
    "python": "3.11.2",
    "project": "abc",
    "torch": "2.15.0",
    "timm": "1.0.31",
    "numpy": "2.4.6",
}
TINY = DataSpec(height=16, width=16, num_train=2, num_validation=1, num_test=1)


def needs_of(store="/shared/results", **changes) -> Needs:
    return Needs(token="t", store=str(store), store_bytes=1000, **changes)


def report(node="node b", **changes) -> NodeReport:
    fields = {"node": node, "versions": ALIKE, "free_bytes": {"store": 10**9, "data": 10**9}}
    return NodeReport(**{**fields, **changes})


DRIVER = report("the driver")


def test_nodes_that_are_alike_pass():
    check_nodes(needs_of(), DRIVER, [report("node a"), report("node b")])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            report(store_error="Permission denied"),
            "Expected a store that every node can write, got /shared/results, of which node b "
            "says: Permission denied.",
        ),
        (
            report(versions={**ALIKE, "torch": "2.14.0"}),
            "Expected the same torch everywhere, got 2.15.0 on the driver and 2.14.0 on node b.",
        ),
        (
            report(versions={**ALIKE, "timm": "none"}),
            "Expected the same timm everywhere, got 1.0.31 on the driver and none on node b.",
        ),
        (
            report(versions={**ALIKE, "project": "def"}),
            "Expected the same project everywhere, got abc on the driver and def on node b.",
        ),
        (
            report(data_error="the prepared data nyuv2 1234 are not in /data."),
            "Expected the data on every node, but on node b: the prepared data nyuv2 1234 are not "
            "in /data.",
        ),
        (
            report(weights="none"),
            "Expected the encoder weights sha256:12 in /w.pt on every node, got none on node b.",
        ),
        (
            report(weights="sha256:12", free_bytes={"store": 999}),
            "Expected 1.0 kB of free disk for the results on node b, got 999 B.",
        ),
    ],
)
def test_what_differs_is_said_with_the_node(wrong, words):
    needs = needs_of(weights_file="/w.pt")
    driver = report("the driver", weights="sha256:12")
    if wrong.weights is None:
        wrong = dataclasses.replace(wrong, weights="sha256:12")
    good = report("node a", weights="sha256:12")
    check_nodes(needs, driver, [good])
    with pytest.raises(PreflightError) as raised:
        check_nodes(needs, driver, [good, wrong])
    assert str(raised.value).startswith(words)
    assert "\n" not in str(raised.value)


def test_a_driver_without_torch_is_no_fault_but_two_nodes_must_agree():
    driver = report("the driver", versions={**ALIKE, "torch": "none"})
    check_nodes(needs_of(), driver, [report("node a"), report("node b")])
    other = report("node b", versions={**ALIKE, "torch": "2.14.0"})
    with pytest.raises(PreflightError, match=r"got 2\.15\.0 on node a and 2\.14\.0 on node b"):
        check_nodes(needs_of(), driver, [report("node a"), other])


def test_copied_data_need_room_on_the_nodes_own_disk(tmp_path):
    prepare(TINY, str(tmp_path))
    needs = needs_of(data=(TINY,), data_root=str(tmp_path), local_data="/local")
    # 57 bytes a pixel, 256 pixels an image, 4 images: 58,368 bytes, and the arrays' headers.
    check_nodes(needs, DRIVER, [report(free_bytes={"local_data": 70_000})])
    with pytest.raises(PreflightError, match="free disk for the copied data on node b"):
        check_nodes(needs, DRIVER, [report(free_bytes={"local_data": 58_000})])


def test_each_machine_looks_and_leaves_a_probe_that_goes_again(tmp_path):
    needs = needs_of(tmp_path, data=(TINY,), data_root=str(tmp_path / "data"))
    first, second = look_around(needs, "node a"), look_around(needs, "node b")
    assert first.store_error is None
    assert first.data_error is None  # scenes can be rendered anywhere
    assert first.versions == second.versions == versions()
    assert first.free_bytes["store"] > 0
    assert seen_probes(needs, ["node a", "node b", "node c"]) == {"node a", "node b"}
    other = dataclasses.replace(needs, token="another preflight")
    assert seen_probes(other, ["node a", "node b"]) == set()
    remove_probes(needs, ["node a", "node b"])
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_not_there_or_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    error = look_around(needs_of(tmp_path / "file"), "node a").store_error
    assert error
    assert "\n" not in error


def test_data_from_files_that_a_node_lacks_or_holds_torn(tmp_path):
    files = dataclasses.replace(TINY, name="folder", prepared="0123456789abcdef")
    needs = needs_of(tmp_path, data=(files,), data_root=str(tmp_path))
    assert look_around(needs, "node a").data_error == (
        f"the prepared data folder 0123456789abcdef are not in {tmp_path}"
    )
    folder = prepare(TINY, str(tmp_path))
    torn = folder / "train" / "image.npy"
    torn.write_bytes(torn.read_bytes()[:-1])
    needs = needs_of(tmp_path, data=(TINY,), data_root=str(tmp_path))
    assert str(torn) in look_around(needs, "node a").data_error


def test_a_store_is_shared_if_everyone_sees_everyone(tmp_path):
    both = {"the driver", "node a"}
    check_shared(needs_of(), {"the driver": both, "node a": both})
    with pytest.raises(PreflightError) as raised:
        check_shared(needs_of(), {"the driver": {"the driver"}, "node a": {"node a"}})
    assert str(raised.value).startswith(
        "Expected a store that all nodes share, got /shared/results, where the driver does not see "
        "what node a writes."
    )


def test_the_local_disk_is_looked_at_too(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    check_store_disk(str(tmp_path / "not" / "yet"), 1000)
    with pytest.raises(PreflightError, match="free disk for the results"):
        check_store_disk(str(tmp_path), free * 2)


def test_the_project_hash_follows_the_code(tmp_path, monkeypatch):
    before = project_hash()
    assert before == project_hash()
    (tmp_path / "mtl").mkdir()
    (tmp_path / "mtl" / "new.py").write_text("x = 1\n")
    import mtl

    monkeypatch.setattr(mtl, "__path__", [str(tmp_path / "mtl")])
    changed = project_hash()
    assert changed != before
    (tmp_path / "mtl" / "new.py").write_text("x = 2\n")
    assert project_hash() != changed


@pytest.fixture
def checked(tmp_path):
    """Return what a look found whose driver has written `runs/1/spec.json` since."""
    (tmp_path / "runs/1").mkdir(parents=True)
    (tmp_path / "runs/1/spec.json").write_text("{}")
    needs = dataclasses.replace(needs_of(tmp_path), store_bytes=10**18)
    here = report("node a", versions=versions())
    return Checked(needs=needs, driver=here, example=here, node_ids=frozenset("a"))


def test_a_newcomer_that_is_like_the_others_is_fit_and_leaves_nothing(checked, tmp_path):
    # Nor does it matter that the disk would not hold the results of the whole sweep again.
    check_newcomer(checked, "node c", "runs/1/spec.json")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_newcomer_that_differs_is_named(checked, tmp_path):
    old = report("node a", versions={**versions(), "torch": "1.0"})
    without = report("the driver", versions={**versions(), "torch": "none"})
    for changed in (
        dataclasses.replace(checked, driver=old, example=old),
        dataclasses.replace(checked, driver=without, example=old),
    ):
        with pytest.raises(PreflightError, match="same torch everywhere, got 1.0 on node a and"):
            check_newcomer(changed, "node c", "runs/1/spec.json")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_newcomer_with_another_folder_in_the_place_of_the_store_is_named(checked, tmp_path):
    other = tmp_path / "other"
    moved = dataclasses.replace(checked, needs=needs_of(other))
    with pytest.raises(PreflightError, match="of which node c says: No such file"):
        check_newcomer(moved, "node c", "runs/1/spec.json")
    assert not other.exists()
    other.mkdir()
    with pytest.raises(PreflightError, match="where node c does not see what node a writes"):
        check_newcomer(moved, "node c", "runs/1/spec.json")
    assert list(other.iterdir()) == []
