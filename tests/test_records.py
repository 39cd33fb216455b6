"""Records as files hold them: what an earlier release wrote reads on."""

import dataclasses
import json
import math

import pytest

from mtl.errors import UsageError
from mtl.records import EpochRecord
from mtl.store import Store

# A line of `epochs.jsonl` as written before `cross_stitch` existed.
EARLIER = {
    "epoch": 1,
    "losses": [1.0, None],
    "weights": [0.5, 0.5],
    "loss_scales": [0.5, None],
    "difficulties": None,
    "learning_rate": 1e-4,
    "metrics": {"validation": {"depth": {"delta1": 0.5}}},
    "seconds": 2.0,
}


def test_earlier_epoch_records_read_on(tmp_path):
    store = Store(tmp_path / "store")
    folder = store.run_folder("0" * 16)
    folder.mkdir(parents=True)
    (folder / "epochs.jsonl").write_text(json.dumps(EARLIER) + "\n")
    (record,) = store.epochs("0" * 16)
    assert record == EpochRecord(**EARLIER, cross_stitch=None)


def test_epoch_records_come_back_as_they_were(tmp_path):
    store = Store(tmp_path / "store")
    store.run_folder("0" * 16).mkdir(parents=True)
    record = EpochRecord(**EARLIER, cross_stitch=[[0.9, 0.1], [0.1, 0.9]])
    absent = dataclasses.replace(record, weights=[0.5, None], loss_scales=[0.5, None])
    without = dataclasses.replace(record, epoch=2, weights=None, loss_scales=None)
    store.write_epochs("0" * 16, [absent, without])
    assert store.epochs("0" * 16) == [absent, without]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", "1"),
        ("epoch", True),
        ("losses", 5),
        ("losses", None),
        ("weights", ["0.5", 0.5]),
        ("loss_scales", [math.nan, 1.0]),
        ("loss_scales", [10**400, 1.0]),
        ("difficulties", [True, 1.0]),
    ],
)
def test_untrusted_epoch_record_with_another_type_is_refused(name, value):
    with pytest.raises(UsageError, match=f"Expected another {name}"):
        EpochRecord.from_dict({**EARLIER, name: value})
