"""A run is its content: identities, strictness, canonical floats."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys

import pytest
import timm

from mtl.spec import (
    NUMERICS_VERSION,
    RunSpec,
    Runtime,
    check_num_processes,
    check_priorities,
    forked,
    forks_of,
    mixed,
    trunk_of,
)
from mtl.spec import run as spec_module
from mtl.spec.encoders import TESTED_ENCODERS, known_encoders
from mtl.spec.methods import METHODS
from mtl.spec.sections import OptimizerSpec
from mtl.spec.strict import flat
from sweeps.plan.fields import nested

# Golden identities by NUMERICS_VERSION, from 1: they may never change, or every store loses its
# runs. Source: the first release of each version; a change means IDENTITY_VERSION or a neutral
# value. A new version adds a column; those of the versions before it stay what they were.
GOLDEN = [
    ({}, ("1d58e5b1038920ae", "ffc6fdc3069c4642")),
    (
        {"method": "fixed", "priorities": [1 / 3, 2 / 3], "seed": 4},
        ("3fcbba0db58198ed", "84fd2acc5ee8def2"),
    ),
    (
        {
            "tasks": ["depth", "normal", "segmentation"],
            "method_options": {"increase_rate": 0.05},
            "network": {"encoder_stride": 8, "decoder_widths": [64, 48, 32, 24, 16, 8]},
            "data": {"variant": "rooms"},
        },
        ("d845c69696172e2b", "507f60360097bc96"),
    ),
]


@pytest.mark.parametrize(("fields", "run_ids"), GOLDEN)
def test_golden_run_ids(fields, run_ids):
    assert len(run_ids) == NUMERICS_VERSION
    assert RunSpec.from_dict(fields).run_id() == run_ids[-1]
    for version, run_id in enumerate(run_ids, start=1):
        assert RunSpec.from_dict({**fields, "numerics_version": version}).run_id() == run_id


def test_round_trip_keeps_spec_and_identity():
    for fields, _ in GOLDEN:
        spec = RunSpec.from_dict(fields)
        again = RunSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
        assert again == spec
        assert again.run_id() == spec.run_id()


def test_identity_is_the_same_in_another_process_without_torch_and_ray():
    code = (
        "import sys, mtl.records, mtl.store, mtl.data.prepared\n"
        "from mtl.spec import RunSpec\n"
        "RunSpec.from_dict({'network': {'encoder': 'resnet18'}})\n"
        "spec = RunSpec(method='fixed', priorities=(1/3, 2/3), loss_units={'depth': 0.1})\n"
        "print(spec.run_id())\n"
        "print([m for m in ('torch', 'timm', 'ray', 'pandas', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},  # here it is another
    )
    here = RunSpec(method="fixed", priorities=(1 / 3, 2 / 3), loss_units={"depth": 0.1}).run_id()
    assert done.stdout.split() == [here, "[]"]


def test_fields_left_out_resolve_to_their_defaults():
    given = RunSpec(
        method="lsb",
        priorities=(0.5, 0.5),
        method_options={"increase_rate": 0.02},
        loss_units={"depth": 1, "segmentation": 1.0},
    )
    assert RunSpec().run_id() == given.run_id()


def test_rounding_noise_is_no_new_run():
    noisy = RunSpec(priorities=(0.1 + 0.2, 0.7))
    clean = RunSpec(priorities=(0.3, 0.7))
    assert noisy == clean
    assert noisy.priorities == (0.3, 0.7)
    assert (
        RunSpec.from_dict({"optimizer": {"learning_rate": 0.1 + 0.2}}).run_id()
        == RunSpec.from_dict({"optimizer": {"learning_rate": 0.3}}).run_id()
    )


OTHER_VALUES = {
    "tasks": ["depth", "normal"],
    "method": "fixed",
    "priorities": [0.25, 0.75],
    "increase_rate": 0.5,
    "depth": 0.1,
    "segmentation": 0.1,
    "horizontal_flips": False,
    "variant": "rooms",
    "encoder": "test_efficientnet",
    "encoder_stride": 16,
    "decoder_widths": [64, 48, 32, 24, 16, 8],
    "schedule": "linear",
    "schedule_epochs": 2000,
    "warmup_share": 0.1,
    "weight_decay": 0.1,
    "beta1": 0.8,
    "beta2": 0.99,
    "epsilon": 1e-7,
    "learning_rate": 1e-3,
    "clamp": 2.0,
    "period_steps": 5,
    "precision": "bf16",
    "channels_last": False,
    "regularizers": False,
    "selection": "validation",
    "architecture": "multi_decoder",
    "encoder_weights": "imagenet",
    "cross_stitch_own_share": 0.5,
    "max_gradient_norm": 1.0,
}
FIELDS = flat(RunSpec().to_dict())
SINGLE_VALUED = {
    "data.name": "other", "data.version": 2, "data.prepared": "other",
    "trunk": "0" * 16, "forked_after": 1, "mixed_between": [[0.5, 0.5], [0.25, 0.75]],
}  # fmt: skip
"""Fields of one known value in this release or on their own, and a value that is refused."""


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_enters_the_identity(name):
    if name in SINGLE_VALUED:
        with pytest.raises(ValueError, match="Unknown|Expected"):
            RunSpec.from_dict(nested({name: SINGLE_VALUED[name]}))
        return
    held = FIELDS[name]
    other = OTHER_VALUES.get(name.rpartition(".")[2], held + 1 if isinstance(held, int) else held)
    assert other != held
    resolved = {"tasks": "loss_units.", "method": "method_options."}.get(name, "nothing")
    values = {key: value for key, value in FIELDS.items() if not key.startswith(resolved)}
    assert RunSpec.from_dict(nested(values | {name: other})).run_id() != RunSpec().run_id()


def test_fork_is_a_run_of_its_own():
    specs = [RunSpec(), forked(RunSpec(), 1), forked(RunSpec(), 2)]
    specs += [dataclasses.replace(specs[1], trunk="0" * 16), trunk_of(specs[1], 1)]
    assert len({spec.run_id() for spec in specs}) == 5


def test_mixed_run_lies_between_its_forks():
    first, second = (forked(RunSpec(priorities=p), 1) for p in ((0.1, 0.9), (0.3, 0.7)))
    held = mixed(first, second, 0.3)
    assert (held.priorities, held.mix, held.own_epochs) == ((0.16, 0.84), 0.3, 0)
    assert forks_of(held) == (first, second)
    assert mixed(second, first, 0.7).run_id() == held.run_id()
    assert RunSpec.from_dict(json.loads(json.dumps(held.to_dict()))) == held
    ids = {spec.run_id() for spec in (first, second, held, dataclasses.replace(held, seed=1))}
    trained = dataclasses.replace(first, priorities=held.priorities)
    assert len(ids | {trained.run_id(), mixed(first, second, 0.4).run_id()}) == 6


def test_impossible_mixes_are_refused():
    first, second = (forked(RunSpec(priorities=p), 1) for p in ((0.1, 0.9), (0.3, 0.7)))
    for mix in (0.0, 1.0, 1.5):
        with pytest.raises(ValueError, match="on the line between those of two forks"):
            mixed(first, second, mix)
    with pytest.raises(ValueError, match="on the line between"):
        mixed(first, first, 0.5)
    with pytest.raises(ValueError, match="differ in their priorities alone"):
        mixed(first, dataclasses.replace(second, seed=1), 0.5)
    with pytest.raises(ValueError, match="mixed_between with trunk"):
        mixed(RunSpec(), RunSpec(priorities=(0.1, 0.9)), 0.5)
    with pytest.raises(ValueError, match="Expected a mixed run"):
        forks_of(first)


def test_hash_of_prepared_data_enters_the_identity():
    ids = {
        RunSpec.from_dict({"data": {"name": name, "prepared": prepared}}).run_id()
        for name in ("nyuv2", "folder")
        for prepared in ("0123456789abcdef", "fedcba9876543210")
    }
    assert len(ids | {RunSpec().run_id()}) == 5


def test_runtime_shares_no_field_with_the_identity():
    runtime = {f.name for f in dataclasses.fields(Runtime)}
    assert not runtime & {part for name in FIELDS for part in name.split(".")}


def test_neutral_value_leaves_the_canonical_form(monkeypatch):
    # As if `optimizer.schedule` had been added after the first release.
    monkeypatch.setitem(spec_module.NEUTRAL_VALUES, "optimizer.schedule", "constant")
    without = RunSpec()
    values = nested({n: v for n, v in FIELDS.items() if n not in spec_module.NEUTRAL_VALUES})
    assert "schedule" not in values["optimizer"]
    canonical = {"identity_version": spec_module.IDENTITY_VERSION, **values}
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    assert without.run_id() == hashlib.sha256(text.encode()).hexdigest()[:16]
    monkeypatch.setitem(spec_module.NEUTRAL_VALUES, "optimizer.schedule", "linear")
    assert without.run_id() != hashlib.sha256(text.encode()).hexdigest()[:16]


BAD = [
    ({"method": "lbs"}, r"Unknown method 'lbs'. Did you mean (gls or )?lsb.*Known: .*fixed.*lsb"),
    ({"tasks": ["dept"]}, "Unknown task 'dept'.*Did you mean depth.*Known: .*normal.*segmentation"),
    ({"tasks": []}, "at least one task"),
    ({"tasks": ["depth", "depth"]}, "distinct tasks"),
    ({"network": {"architecture": "mtam"}}, "Unknown architecture 'mtam'.*full_sharing"),
    ({"network": {"encoder_weights": "my.pth"}}, "random, imagenet or sha256"),
    ({"network": {"cross_stitch_own_share": 1.5}}, "from 0 to 1, got 1.5"),
    ({"method": "torchjd:UPGrat"}, "Unknown TorchJD method 'UPGrat'.*UPGrad"),
    ({"method": "dwa", "method_options": {"temperature": 0}}, "temperature to be finite and above"),
    ({"method": "torchjd:MGDA", "method_options": {"max_iters": 1.5}}, "whole number"),
    ({"method": "dwa", "method_options": {"temperature": None}}, "above 0, got None"),
    ({"period_epochs": 1001}, "no longer than the training of 1000 epochs .50000 steps.*1001"),
    ({"period_steps": 50001}, "period_steps 50001. The weights would never change"),
    ({"period_steps": 5, "period_epochs": 2}, "either period_epochs or period_steps"),
    ({"method": "equal", "period_epochs": 2}, "no period for method 'equal'"),
    ({"method": "torchjd:Krum"}, "at least 3 tasks for method 'torchjd:Krum', got 2. Add"),
    ({"micro_batches": 9}, "micro_batches at most batch_size = 8, got 9"),
    ({"precision": "fp16"}, "Unknown precision 'fp16'.*bf16, float32"),
    ({"selection": "test"}, "Unknown selection 'test'.*last, validation"),
    ({"optimizer": {"max_gradient_norm": 0}}, "max_gradient_norm to be positive"),
    (
        {"method": "gradnorm", "network": {"architecture": "single_task"}},
        "architecture that shares parameters for method 'gradnorm'",
    ),
    ({"network": {"encoder": "mobilnetv2_100"}}, "Unknown encoder.*mobilenetv2_100"),
    ({"network": {"encoder_stride": 12}}, "one of 2, 4, 8, 16, 32, got 12"),
    ({"network": {"decoder_widths": [8, 8]}}, "six positive channel counts"),
    ({"optimizer": {"lr": 1}}, "Unknown field 'lr' of optimizer.*learning_rate"),
    ({"optimizer": {"learning_rate": 0}}, "positive"),
    ({"optimizer": {"schedule": "step"}}, "Unknown optimizer.schedule.*constant, cosine, linear"),
    ({"beta": 1}, "Unknown field 'beta' of RunSpec"),
    ({"priorities": [0.5, 0.6]}, "sum to 1"),
    ({"priorities": [-0.5, 1.5]}, "positive priorities"),
    ({"priorities": [0, 1]}, "positive priorities"),
    ({"priorities": [float("nan"), 1]}, "positive priorities"),
    ({"priorities": [1]}, "2 priorities, one for each"),
    ({"method": "equal", "priorities": [0.5, 0.5]}, "takes none"),
    (
        {"method": "fixed", "method_options": {"increase_rate": 1}},
        "Unknown option 'increase_rate' of method",
    ),
    ({"method_options": {"increase_rate": -1}}, "at least 0"),
    ({"loss_units": {"normal": 1}}, "Unknown task 'normal' of loss_units"),
    ({"loss_units": {"depth": 0}}, "positive"),
    ({"epochs": "3"}, "epochs to be of type int, got '3'"),
    ({"epochs": True}, "epochs to be of type int"),
    ({"epochs": 0}, "at least 1"),
    ({"batch_size": 401}, "at most data.num_train"),
    ({"data": {"name": "nyu"}}, "Unknown data set 'nyu'"),
    ({"data": {"version": 99}}, "data.version"),
    ({"data": {"name": "nyuv2"}}, "16 digits of a hash, for nyuv2, got None.*--dataset nyuv2"),
    ({"data": {"prepared": "0123456789abcdef"}}, "no data.prepared for scenes"),
    ({"data": {"height": 0}}, "at least 1"),
    ({"data": 3}, "mapping for data"),
    ({"tasks": "depth"}, "tasks to be of type"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[str(b[0]) for b in BAD])
def test_bad_fields_are_one_sentence(fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        RunSpec.from_dict(fields)
    assert "\n" not in str(caught.value)


def test_choices_are_checked_in_python_as_in_files():
    with pytest.raises(ValueError, match=r"Unknown optimizer.schedule 'step'"):
        OptimizerSpec(schedule="step")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Unknown keep 'some'"):
        Runtime(keep="some")  # type: ignore[arg-type]


def test_priorities_may_miss_one_by_rounding_only():
    tasks = ("a", "b", "c")
    assert sum(check_priorities((0.3333333, 0.3333333, 0.3333334), tasks)) == pytest.approx(1)
    with pytest.raises(ValueError, match="sum to 1"):
        check_priorities((0.33333, 0.33333, 0.33333), tasks)


def test_encoder_names_are_read_without_torch_and_complete():
    assert set(known_encoders()) == set(timm.list_models())
    assert set(TESTED_ENCODERS) <= set(known_encoders())


def test_default_options_are_those_of_the_papers():
    # Supplement, section 3; Liu 2019; Chen 2018 (its code's rate of the weights); Lin 2024.
    assert METHODS["lsb"].options == {"increase_rate": 0.02, "clamp": None}
    assert METHODS["dwa"].options == {"temperature": 2.0}
    assert METHODS["gradnorm"].options == {"alpha": 1.5, "weight_lr": 0.025}
    assert METHODS["stch"].options == {"mu": 0.1}


def test_whole_numbers_and_options_that_are_off_survive():
    spec = RunSpec.from_dict({"method": "torchjd:MGDA", "method_options": {"max_iters": 7.0}})
    assert spec.method_options == {"epsilon": 0.001, "max_iters": 7}
    assert isinstance(RunSpec.from_dict(spec.to_dict()).method_options["max_iters"], int)
    assert RunSpec.from_dict({"method_options": {"clamp": 2}}).method_options["clamp"] == 2.0
    assert RunSpec.from_dict({"method_options": {"clamp": None}}).run_id() == RunSpec().run_id()


def test_every_method_gets_its_own_options():
    for method, needs in METHODS.items():
        spec = RunSpec(method=method, tasks=("depth", "normal", "segmentation"))
        assert spec.method_options == dict(sorted(needs.options.items()))
        assert (spec.priorities is not None) == needs.takes_priorities


def test_each_process_of_a_run_has_an_image_of_each_part_of_a_batch():
    for fields, most in (({"batch_size": 8}, 8), ({"batch_size": 8, "micro_batches": 3}, 2)):
        spec = RunSpec.from_dict(fields)
        check_num_processes(spec, most)
        with pytest.raises(ValueError, match=f"at most {most} processes .*, got {most + 1}"):
            check_num_processes(spec, most + 1)
    check_num_processes(RunSpec(batch_size=1, micro_batches=1), 1)
