"""Plans: identity, order, axes, and what cannot be trained."""

import itertools
import subprocess
import sys
import time

import pytest

from mtl.spec import RunSpec
from mtl.spec.methods import METHODS
from mtl.spec.strict import flat
from sweeps.plan import Grid, grid_specs, make_plan
from sweeps.plan.defaults import DEFAULT_FIELDS
from sweeps.plan.fields import nested, parse_assignment, spec_fields
from sweeps.plan.lattice import coarse_to_fine, simplex_lattice
from sweeps.priority_grid import GRID

THREE = (("depth", "normal", "segmentation"),)


def plan(**changes):
    values = {
        "task_sets": (("depth", "segmentation"),),
        "methods": ("lsb", "fixed"),
        "divisions": 4,
        "seeds": 2,
        "fields": DEFAULT_FIELDS,
    }
    return make_plan("test", "priority_grid", grid_specs(Grid(**(values | changes))))


def test_large_plans_are_quick():
    began = time.process_time()
    assert len(coarse_to_fine(simplex_lattice(2, 50_000))) == 49_999
    assert len(plan(divisions=1000).specs) == 3_996
    assert time.process_time() - began < 6  # the quadratic order alone takes far longer


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"divisions": 1_000_000, "seeds": 1}, "1,999,998"),
        ({"divisions": 10**12, "task_sets": THREE}, "1,999,999,999,994,"),
        ({"seeds": 1_000_000_000, "methods": ("equal",)}, "1,000,000,000"),
        ({"axes": {"epochs": tuple(range(1, 30_001))}, "seeds": 1}, "180,000"),
        ({"axes": {"priorities": ((0.2, 0.8), (0.5, 0.5))}, "seeds": 50_000}, "200,000"),
    ],
)
def test_huge_grids_are_refused_before_they_are_listed(changes, number, monkeypatch):
    def listed(*_):
        raise AssertionError("a point was listed")

    monkeypatch.setattr("sweeps.plan.grid.simplex_lattice", listed)
    monkeypatch.setattr(RunSpec, "from_dict", listed)
    with pytest.raises(ValueError, match=f"at most 100,000 runs, got {number}"):
        plan(**changes)


def test_default_job_is_twenty_runs_middle_first():
    specs = grid_specs(GRID)
    assert len({spec.run_id() for spec in specs}) == len(specs) == 20
    assert [(s.method, s.priorities) for s in specs[:2]] == [
        ("lsb", (0.5, 0.5)),
        ("fixed", (0.5, 0.5)),
    ]
    assert [s.seed for s in specs] == [0] * 10 + [1] * 10
    assert set(make_plan("n", "k", specs).varies) == {"method", "priorities", "seed"}


def test_methods_without_priorities_appear_once_a_seed():
    specs = plan(methods=("lsb", "equal"), divisions=6).specs
    assert [s.seed for s in specs if s.method == "equal"] == [0, 1]
    assert len([s for s in specs if s.method == "lsb"]) == 10


def test_axes_apply_to_the_runs_that_have_the_field():
    def counts(**changes):
        specs = plan(seeds=1, **changes).specs
        return [
            len(list(g)) for _, g in itertools.groupby(sorted((s.tasks, s.method) for s in specs))
        ]

    # Three priorities; two rates for lsb, none for fixed.
    assert counts(axes={"method_options.increase_rate": (0.0, 0.02)}) == [3, 6]
    task_sets = (("depth", "segmentation"), ("depth", "normal"))
    units = {"loss_units.segmentation": (1.0, 0.1)}
    assert counts(task_sets=task_sets, axes=units, methods=("lsb",)) == [3, 6]


def test_order_in_which_tasks_are_typed_does_not_matter():
    straight, reverse = ("depth", "segmentation"), ("segmentation", "depth")
    assert plan(task_sets=(reverse,)).run_ids == plan(task_sets=(straight,)).run_ids
    assert plan(task_sets=(reverse, straight)).run_ids == plan().run_ids


def test_given_priorities_follow_the_typed_order_of_tasks():
    axes = {"priorities": ((0.2, 0.8), (0.5, 0.5), (0.3, 0.7))}
    typed = plan(task_sets=(("segmentation", "depth"),), axes=axes, methods=("lsb",), seeds=1)
    assert {s.priorities for s in typed.specs} == {(0.8, 0.2), (0.5, 0.5), (0.7, 0.3)}


def test_larger_grid_keeps_the_old_runs():
    small = set(plan(divisions=4, seeds=1).run_ids)
    assert small < set(plan(divisions=8, seeds=1).run_ids)
    assert small < set(plan(divisions=4, seeds=3).run_ids)
    assert small < set(plan(divisions=4, seeds=1, methods=("equal", "fixed", "lsb")).run_ids)


def test_equal_runs_are_planned_once():
    specs = plan().specs
    assert make_plan("n", "k", itertools.chain(specs, reversed(specs))).specs == specs
    assert plan(task_sets=(("depth", "segmentation"),) * 2).specs == specs


def test_plan_is_the_same_in_another_process():
    code = (
        "from sweeps.priority_grid import GRID; from sweeps.plan import grid_specs;"
        "print([s.run_id() for s in grid_specs(GRID)])"
    )
    environment = {"PYTHONHASHSEED": "1", "PATH": ""}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert out.stdout.strip() == str([s.run_id() for s in grid_specs(GRID)])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("optimizer.learning_rate=1e-4,1e-3", (1e-4, 1e-3)),
        ("optimizer.learning_rate=1", (1.0,)),
        ("epochs=2,3,2", (2, 3, 2)),
        ("epochs=020", (20,)),
        ("horizontal_flips=true,false", (True, False)),
        ("optimizer.schedule=constant,linear", ("constant", "linear")),
        ("network.decoder_widths=6,5,4,3,2,1", ((6, 5, 4, 3, 2, 1),)),
        ("priorities=[0.2,0.8],[1e-1,9e-1]", ((0.2, 0.8), (0.1, 0.9))),
        ("loss_units.depth=0.1", (0.1,)),
        ("method_options.clamp=none,2", (None, 2.0)),
        ("period_steps=none,5", (None, 5)),
        ("optimizer.max_gradient_norm=null,1", (None, 1.0)),
    ],
)
def test_assignments(text, values):
    dotted, _, _ = text.partition("=")
    assert parse_assignment(text) == (dotted, values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "FIELD=VALUE"),
        ("epochs=", "FIELD=VALUE"),
        ("epochs=many", "epochs to be of type int, got 'many'"),
        ("epochs=1.5", "type int"),
        ("epochs=true", "type int"),
        ("epochs=none", "type int"),
        ("horizontal_flips=3", "type bool"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate to be of type float"),
        ("optimizer.learning_rte=1", "Did you mean optimizer.learning_rate"),
        ("data=scenes", "Unknown field"),
        ("increase_rate=0.1", "Did you mean method_options.increase_rate"),
        ("method_options=3", "Unknown field"),
        ("priorities=0.5", "Expected 2 priorities"),
        ("data.name=[", "separated by commas"),
        ("data.name=3", "data.name to be of type str"),
    ],
)
def test_bad_assignments(text, message):
    with pytest.raises(ValueError, match=message):
        plan(axes=dict([parse_assignment(text)]))


def test_dotted_and_nested_fields_are_inverse():
    assert RunSpec.from_dict(nested(spec_fields(RunSpec()))) == RunSpec()
    assert flat(nested(DEFAULT_FIELDS)) == DEFAULT_FIELDS


def test_every_method_can_be_planned():
    assert {s.method for s in plan(methods=tuple(METHODS), task_sets=THREE).specs} == set(METHODS)
