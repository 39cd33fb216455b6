"""Plans and runs on object storage are compared as those in a folder are."""

from pathlib import Path

import pytest

from mtl.store import Store, objects
from sweeps.diff import main
from sweeps.priority_grid import main as sweep
from tests.sweeps.watched import IDS, SPECS, finish, record, write_status


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RETRY_PAUSES", (0.0,))


def fill(store: Store) -> Store:
    for spec in SPECS:
        store.write_spec(spec)
    write_status(store)
    finish(store, 0, 0.5, 0.25)
    store.write_epochs(IDS[0], [record(epoch) for epoch in range(1, SPECS[0].epochs + 1)])
    return store


@pytest.fixture
def store(s3_address: str) -> Store:
    return fill(Store(s3_address))


def below(store: Store, key: str) -> str:
    """Return the address of something in a store."""
    root, _, options = store.address.partition("?")
    return f"{root}/{key}?{options}"


def lines(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert main(list(argv)) == 0
    return capsys.readouterr().out.splitlines()


def test_a_sweep_there_and_one_in_a_folder(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = fill(Store(tmp_path / "store"))
    for key in ("sweeps/mine", "sweeps/mine/plan.json"):
        out = lines(capsys, below(store, key), str(local.sweep_folder("mine")))
        assert out[0] == f"A: {store.place('sweeps/mine/plan.json')}: 20 runs"
        assert out[-1] == "The same runs."
    # Beside other fields, those of the runs that only one of them has.
    assert sweep(["--plan", "--json", "--store", str(tmp_path / "none"), "--seeds", "1"]) == 0
    plan = capsys.readouterr().out
    store.write("plans/old plan.json", plan.encode())
    (tmp_path / "old.json").write_text(plan)
    there = lines(capsys, below(store, "sweeps/mine"), below(store, "plans/old%20plan.json"))
    here = lines(capsys, str(local.sweep_folder("mine")), str(tmp_path / "old.json"))
    assert there[2:] == here[2:]
    assert "  seed: only in A 1" in there


def test_two_runs_by_address_and_by_id(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = fill(Store(tmp_path / "store"))
    here = lines(capsys, IDS[0], IDS[1], "--store", str(local.root))
    assert lines(capsys, IDS[0], IDS[1], "--store", store.address) == here
    addresses = [below(store, f"runs/{run_id}") for run_id in IDS[:2]]
    assert lines(capsys, *addresses) == here
    assert here[-1] == "No results to compare: B has 0 epochs and no result."
    out = lines(capsys, addresses[0], str(local.run_folder(IDS[0])))
    assert out[-1] == "The same results to the last digit."


def test_bad_input_is_one_sentence_without_credentials(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write("plans/damaged.json", b'{"runs": [5]}')
    store.write(store.run_key(IDS[1], "spec.json"), b"[]")
    good = below(store, "sweeps/mine")
    for bad, status, says in (
        (below(store, "sweeps/none"), 1, "is absent"),
        (below(store, "plans/none.json"), 1, "is absent"),
        (below(store, "plans/damaged.json"), 1, "holds a run without a run id"),
        (below(store, f"runs/{IDS[1]}"), 1, "whose spec.json holds list, not an object"),
        (below(store, f"runs/{IDS[0]}"), 2, "two plans or two runs, got one of each"),
        (below(store, "nothing/sweeps/mine"), 1, "holds no store.json"),
        (store.address, 1, "is absent"),
        ("s3://bucket", 2, "Expected the address of a run, a sweep or a plan"),
        (good.replace("bucket", "absent"), 1, "Expected a bucket"),
        (good.replace("scheme", "sesame"), 1, "Expected an address like"),
    ):
        bad = bad.replace("s3://", "s3://someone:open%2Fsesame@")
        assert main([good, bad]) == status, bad
        said = capsys.readouterr()
        assert says in said.err
        assert (said.out, len(said.err.splitlines())) == ("", 1)
        assert "someone" not in said.err
        assert "open" not in said.err
