"""One place understands what names a store, whichever command is given it."""

import json
from pathlib import Path

import pytest

from analysis.load.plans import default_folder, stores_among, table_among
from mtl.errors import UsageError
from mtl.spec import RunSpec
from mtl.store import Store, existing_store, is_address, local_folder, write_json
from mtl.store.__main__ import main
from mtl.store.address import shown_address


@pytest.mark.parametrize(
    ("address", "folder"),
    [
        ("results", "results"),
        ("/a b", "/a b"),
        ("/a%20b", "/a%20b"),
        ("file:///a%20b", "/a b"),
        ("FILE:///a", "/a"),
        ("file://localhost/a", "/a"),
        ("s3://bucket/a%20b", None),
        ("S3://bucket", None),
    ],
)
def test_address_names_a_folder_or_object_storage(address, folder):
    assert local_folder(address) == (None if folder is None else Path(folder))
    assert is_address(address) == (folder is None)


def test_home_is_expanded():
    assert local_folder("~/results") == Path.home() / "results"


@pytest.mark.parametrize("address", ["", "  ", "file://", "file://results", "file://~/results"])
def test_address_without_an_absolute_path_is_refused(address):
    with pytest.raises(UsageError, match="^Expected"):
        local_folder(address)


@pytest.mark.parametrize("address", ["s3:/user:secret@bucket/a", "GS:/bucket", "file:/a"])
def test_scheme_with_one_slash_is_refused(address):
    with pytest.raises(UsageError, match="^Expected two slashes after") as caught:
        local_folder(address)
    assert "secret" not in str(caught.value)
    assert local_folder(f"./{address}") == Path(address)


def test_shown_address_holds_no_secret():
    shown = shown_address("s3://user:pass%2Fword@bucket/a/b/?region=x&session_token=y#z")
    assert shown == "s3://bucket/a/b"


def test_every_reader_finds_a_store_behind_a_quoted_address(tmp_path, capsys):
    address = f"file://{tmp_path}/a%20store"
    assert existing_store(address) is None
    store = Store(address)
    assert store.root == tmp_path / "a store"
    store.write_spec(RunSpec())
    found = existing_store(address)
    assert found.run_ids() == store.run_ids()
    (tmp_path / "a store/sweeps/mine").mkdir()
    write_json(tmp_path / "a store/sweeps/mine/plan.json", {"schema": 1, "revisions": []})
    assert table_among([address]) is None
    ((opened,), asked) = stores_among([f"{address}/sweeps/mine"])
    assert opened.root == store.root
    assert asked is not None
    assert default_folder([address], "report") == store.root / "report"
    assert main(["list", address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "missing"
