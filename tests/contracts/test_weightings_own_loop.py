"""What every weighting promises in a training loop that is not ours."""

import copy
import functools
import inspect

import pytest
import torch
from torch import nn

from mtl.spec.methods import METHODS, OWN_METHODS
from mtl.weighting import build_weighting
from mtl.weighting.base import MAX_CALLS_WITHOUT, Weighting
from mtl.weighting.inputs import by_task
from tests.weighting.problems import (
    EVERY_METHOD,
    F64,
    GRADIENTS,
    VALUES,
    Descent,
    Pinned,
    build,
    equal_states,
    run,
    series,
)

CALLABLE = pytest.mark.parametrize("method", sorted(set(METHODS) - GRADIENTS))
"""Methods with an overall loss, which a loop may back-propagate itself."""


def warmed_up(method: str) -> Weighting:
    """Return a weighting two periods old."""
    weighting = build(method)
    run(weighting, series(2, 2, 3))
    return weighting


@EVERY_METHOD
def test_losses_by_name_are_those_in_order(method: str) -> None:
    one, other = Pinned(3), Pinned(3)
    ordered, named = warmed_up(method), warmed_up(method)
    one.take(ordered, VALUES)
    by_name = dict(zip(named.tasks, other.terms(VALUES), strict=True))
    named.backward(dict(reversed(by_name.items())), None, *other.parameters)
    assert torch.equal(one.shared.grad, other.shared.grad)
    assert equal_states(ordered.state_dict(), named.state_dict())
    if method == "torchjd:Krum":
        return  # it refuses two
    # None is a task without labels.
    one.take(ordered, VALUES, torch.tensor([True, False, True]))
    other.shared.grad = None
    depth, _, segmentation = other.terms(VALUES)
    without = {"depth": depth, "normal": None, "segmentation": segmentation}
    named.backward(without, None, *other.parameters)
    assert torch.equal(one.shared.grad, other.shared.grad)
    assert equal_states(ordered.state_dict(), named.state_dict())


@EVERY_METHOD
def test_lists_and_dicts_are_taken_like_tensors(method: str) -> None:
    tensor, (one, other) = warmed_up(method), (Pinned(3), Pinned(3))
    state, tasks = copy.deepcopy(tensor.state_dict()), tensor.tasks
    here = [True, True, method == "torchjd:Krum"]  # which refuses two
    one.take(tensor, VALUES, torch.tensor(here))
    for listed, present in (
        (list, here),
        (tuple, dict(zip(reversed(tasks), reversed(here), strict=True))),
        (list, tuple(torch.tensor(flag) for flag in here)),
    ):
        tensor_like = fresh(method)
        tensor_like.load_state_dict(state)
        other.shared.grad = None
        tensor_like.backward(listed(other.terms(VALUES)), present, *other.parameters)
        assert torch.equal(one.shared.grad, other.shared.grad)
        assert equal_states(tensor.state_dict(), tensor_like.state_dict())


@pytest.mark.parametrize("method", sorted(m for m in METHODS if METHODS[m].takes_priorities))
def test_priorities_are_taken_by_name(method: str) -> None:
    by_name = build_weighting(method, ("a", "b"), {"b": 0.7, "a": 0.3})
    assert by_name.priorities.tolist() == [0.3, 0.7]
    with pytest.raises(ValueError, match=r"priority of each of \['a', 'b'\], got \['a', 'c'\]"):
        build_weighting(method, ("a", "b"), {"a": 0.3, "c": 0.7})


def test_other_kinds_of_losses_and_presence_are_refused() -> None:
    losses = torch.ones(2)
    for given, present, message in (
        (1.0, None, "tensor, a list or a dict by task, got float"),
        (losses.numpy(), None, "tensor, a list or a dict by task, got ndarray"),
        (losses, [1, 0], r"True or False for each .*got \[1, 0\]"),
        (losses, torch.tensor([1, 0]), "True or False for each .*got torch.int64"),
        (losses, {"a": True}, r"presence of each of \['a', 'b'\], got \['a'\]"),
        (losses, [True], "presence of each of .*got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            inspect.unwrap(by_task)(("a", "b"), given, present)


def test_losses_of_other_tasks_are_refused() -> None:
    weighting = build_weighting("lsb", ("a", "b"))
    one = torch.ones((), requires_grad=True)
    for losses, message in (
        ({"a": one}, r"loss of each of \['a', 'b'\], got \['a'\].*None"),
        ({"a": one, "c": one}, r"got \['a', 'c'\]"),
        # Who skips where others train too leaves them waiting.
        ({"a": None, "b": None}, r"None for all.*others would wait.*present=\[False, False\]"),
        ([one], r"loss of each of \['a', 'b'\], got 1\."),
        ({"a": one, "b": 1.0}, "loss of task 'b' as a tensor with gradients, got 1.0"),
        ({"a": one, "b": torch.ones(2)}, r"one number a task.*'b': \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            weighting(losses)


@pytest.mark.parametrize("method", sorted(GRADIENTS))
@pytest.mark.parametrize("in_one_tensor", [False, True])
def test_lists_of_parameters_in_another_order_are_refused(method: str, in_one_tensor: bool) -> None:
    # Both heads would get no gradient, without a word.
    problem = Pinned(3)
    own = dict(zip(fresh(method).tasks, ([o] for o in problem.own), strict=True))
    lists = {
        "right": (list(own.values()), None),
        "by name": (dict(reversed(own.items())), None),
        "swapped": ([own["normal"], own["depth"], own["segmentation"]], "task_parameters of task"),
        "moved": ([[*own["depth"], *own["normal"]], [], own["segmentation"]], "of task 'depth'"),
    }
    for given, message in lists.values():
        losses = problem.losses(VALUES)
        losses = losses * 1 if in_one_tensor else losses
        arguments = (losses, None, [problem.shared], given)
        if message is None:
            fresh(method).backward(*arguments)
        else:
            with pytest.raises(ValueError, match=message):
                fresh(method).backward(*arguments)


def test_head_of_a_task_without_labels_is_looked_at_later() -> None:
    problem, weighting = Pinned(2), build("torchjd:UPGrad", 2)
    swapped = [[o] for o in reversed(problem.own)]
    here = torch.tensor([False, False])
    weighting.backward(problem.losses(torch.ones(2)), here, [problem.shared], swapped)
    with pytest.raises(ValueError, match="task_parameters of task 'normal'"):
        weighting.backward(problem.losses(torch.ones(2)), None, [problem.shared], swapped)


@CALLABLE
def test_validation_changes_nothing(method: str) -> None:
    weighting = warmed_up(method)
    before = copy.deepcopy(weighting.state_dict())
    losses = torch.tensor([0.3, 0.2, 0.4], dtype=F64, requires_grad=True)
    with torch.no_grad():
        assert weighting(losses).isfinite()
    weighting.eval()
    assert weighting(losses).isfinite()
    weighting(torch.full((3,), torch.nan, dtype=F64))
    assert equal_states(before, weighting.state_dict())


@EVERY_METHOD
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_loss_that_is_not_finite_is_refused_at_once_and_leaves_no_trace(
    method: str, bad: float
) -> None:
    weighting, problem = warmed_up(method), Pinned(3)
    before = copy.deepcopy(weighting.state_dict())
    with pytest.raises(ValueError, match="finite loss of task 'normal', got (nan|-inf)"):
        problem.take(weighting, torch.tensor([1.0, bad, 1.0], dtype=F64))
    assert equal_states(before, weighting.state_dict())
    problem.take(weighting, torch.tensor([1.0, 2.0, 1.0], dtype=F64))
    weighting.step(lambda: problem.again(torch.ones(3, dtype=F64)))
    weighting.end_period()


@EVERY_METHOD
def test_step_that_a_scaler_skips_is_not_learnt_from(method: str) -> None:
    # The scaler's answer: an overflowing gradient is left where it is, for it to skip the step.
    weighting, problem = warmed_up(method), Pinned(3)
    weighting.skip_nonfinite = True
    before = copy.deepcopy(weighting.state_dict())
    problem.take(weighting, torch.tensor([1.0, torch.nan, 1.0], dtype=F64))
    assert problem.shared.grad.isnan().all()
    weighting.step(lambda: torch.ones(3, dtype=F64))
    after = weighting.state_dict()
    for state in (before, after):
        state["_extra_state"].pop("steps_in_period")
        state["_extra_state"].pop("num_calls", None)
        state.pop("last_weights", None)  # of a call
        state.pop("last_losses", None)
        state["_extra_state"].pop("last_weights", None)
    assert equal_states(before, after)
    with pytest.raises(ValueError, match="finite loss of task 'depth' in the period, got 1 step"):
        weighting.end_period()
    problem.take(weighting, torch.ones(3, dtype=F64))
    weighting.end_period()  # the next period is a new one


@EVERY_METHOD
def test_gradients_with_a_scaler_are_the_scaled_ones(method: str) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    plain, scaled = warmed_up(method), warmed_up(method)
    one, other = Pinned(3), Pinned(3)
    one.take(plain, VALUES)
    scaled.backward(other.losses(VALUES), None, *other.parameters, scaler)
    torch.testing.assert_close(other.shared.grad, 1024 * one.shared.grad)
    torch.testing.assert_close(other.own_gradients(), 1024 * one.own_gradients())
    for weighting in (plain, scaled):
        weighting.step(lambda: one.again(VALUES))
    if method not in ("torchjd:NashMTL",):  # its solver stops at an accuracy of its own
        assert equal_states(plain.weights, scaled.weights)


@pytest.mark.parametrize("method", ["lsb", "gradnorm", "torchjd:UPGrad"])
def test_training_in_mixed_precision_goes_down(method: str) -> None:
    torch.manual_seed(0)
    print("torch seed 0")
    shared, heads = nn.Linear(8, 8), [nn.Linear(8, 1) for _ in range(2)]
    parameters = [*shared.parameters(), *(p for head in heads for p in head.parameters())]
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=1000)
    weighting = build_weighting(method, ("a", "b"), skip_nonfinite=True)
    inputs, history = torch.randn(32, 8), []
    for _ in range(60):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            features = torch.tanh(shared(inputs))
            losses = [(head(features).float() - inputs[:, :1]).square().mean() for head in heads]
        weighting.backward(
            torch.stack(losses),
            shared_parameters=list(shared.parameters()),
            task_parameters=[list(head.parameters()) for head in heads],
            scaler=scaler,
        )
        scaler.step(optimizer)
        scaler.update()
        weighting.step()
        history.append(sum(losses).item())
    assert scaler.get_scale() < 2.0**40  # some steps were skipped
    assert history[-1] < 0.5 * history[0]


@CALLABLE
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_losses_are_weighted_in_single_precision(
    method: str, dtype: torch.dtype
) -> None:
    weighting, problem = warmed_up(method), Pinned(3, dtype=dtype)
    overall = weighting(problem.losses(VALUES))
    assert overall.dtype == torch.float32
    assert overall.isfinite()


def test_large_weight_of_a_half_precision_loss_does_not_overflow() -> None:
    # Means 6e4 and 1e-3, overall 3e4: weights 0.25 and 1.5e7, which is beyond float16.
    weighting = build_weighting("lsb", ("a", "b"))
    weighting(torch.tensor([60_000.0, 1e-3], dtype=torch.float16))
    weighting.end_period()
    overall = weighting(torch.tensor([60_000.0, 1e-3], dtype=torch.float16))
    assert overall.item() == pytest.approx(30_000, rel=1e-2)


@EVERY_METHOD
def test_casts_of_the_network_leave_the_numbers_alone(method: str) -> None:
    weighting = warmed_up(method)
    before = copy.deepcopy(weighting.state_dict())
    network = nn.ModuleDict({"weighting": weighting, "layer": nn.Linear(2, 2)})
    for cast in (network.half, network.bfloat16, network.float, lambda: network.to(F64)):
        cast()
    assert network["layer"].weight.dtype == F64
    assert equal_states(before, weighting.state_dict())


@EVERY_METHOD
def test_no_optimizer_of_the_network_sees_a_weighting(method: str) -> None:
    assert not list(build(method).parameters())


OTHER_OPTION = {
    "lsb": {"increase_rate": 0.3},
    "stch": {"mu": 0.3},
    "dwa": {"temperature": 3.0},
    "torchjd:CAGrad": {"c": 0.3},
}


fresh = functools.cache(build)
"""A weighting as it was built, for what leaves it so: solvers take long to build."""


@EVERY_METHOD
def test_state_of_another_method_is_refused(method: str) -> None:
    state = fresh(method).state_dict()
    for other in set(METHODS) - {method}:
        with pytest.raises(ValueError, match="state of a weighting with method .*got one with"):
            fresh(other).load_state_dict(state)


@EVERY_METHOD
def test_state_of_other_options_seed_or_period_is_refused(method: str) -> None:
    state = fresh(method).state_dict()
    others: list[dict] = [OTHER_OPTION[method]] if method in OTHER_OPTION else []
    if METHODS[method].draws:
        others.append({"seed": 1})
    for options in [{"steps_per_period": 2}, *others]:
        name = "steps_per_period" if "steps_per_period" in options else "options"
        with pytest.raises(ValueError, match=f"state of a weighting with {name} .*got one with"):
            build(method, **options).load_state_dict(state)


@EVERY_METHOD
def test_state_of_other_tasks_or_priorities_is_refused(method: str) -> None:
    state = warmed_up(method).state_dict()
    swapped = build(method, order=(1, 0, 2))
    before = copy.deepcopy(swapped.state_dict())
    with pytest.raises(ValueError, match=r"with tasks \['normal', 'depth', .*got one with \['de"):
        swapped.load_state_dict(state)
    assert equal_states(before, swapped.state_dict())
    if METHODS[method].takes_priorities:
        equal = build_weighting(method, ("depth", "normal", "segmentation"))
        with pytest.raises(ValueError, match="with priorities .*got one with"):
            equal.load_state_dict(state)


@EVERY_METHOD
def test_state_of_an_older_release_loads(method: str) -> None:
    newer = {"method", "options", "steps_per_period", "tasks", "priorities", "steps_in_period"}
    whole = warmed_up(method).state_dict()
    for removed in (newer - {"tasks", "priorities", "steps_in_period"}, newer):
        state = copy.copy(whole)
        left = {k: v for k, v in state["_extra_state"].items() if k not in removed}
        if left:
            state["_extra_state"] = left
        else:  # the first release had none for most methods
            del state["_extra_state"]
        weighting = build(method)
        weighting.load_state_dict(state)
        assert equal_states(weighting.state_dict(), whole)


def test_period_of_so_many_steps_ends_by_itself() -> None:
    by_itself, by_hand = (build_weighting("lsb", ("a", "b"), steps_per_period=n) for n in (2, None))
    problems = Descent(2), Descent(2)
    for step in range(6):
        problems[0].take(by_itself, [step])
        problems[1].take(by_hand, [step])
        if step % 2:
            by_hand.end_period()
        if step == 2:  # resumed in mid-period
            state = by_itself.state_dict()
            by_itself = build_weighting("lsb", ("a", "b"), steps_per_period=2)
            by_itself.load_state_dict(state)
        assert torch.equal(by_itself.weights, by_hand.weights)
    assert by_itself.difficulties is not None


@pytest.mark.parametrize("number", [0, -1, 2.5, 2.0, True, "2"])
def test_steps_per_period_is_a_whole_number(number: object) -> None:
    with pytest.raises(ValueError, match="whole number of at least 1 for steps_per_period, got"):
        # Without the tests' own check of types.
        inspect.unwrap(build_weighting)("lsb", ("a", "b"), steps_per_period=number)


@pytest.mark.parametrize("method", [*sorted(OWN_METHODS), "torchjd:FAMO"])
def test_forgotten_call_is_warned_of_once(
    method: str, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    for call in MAX_CALLS_WITHOUT:
        monkeypatch.setitem(MAX_CALLS_WITHOUT, call, 3)
    weighting, problem = build(method), Pinned(3)
    needs = {
        **dict.fromkeys(("lsb", "dwa"), "end_period"),
        **dict.fromkeys(("uncertainty", "imtl_l", "gradnorm", "torchjd:FAMO"), "step"),
    }.get(method)
    for _ in range(5):
        problem.take(weighting, torch.ones(3, dtype=F64))
    assert [str(w.message)[:60] for w in recwarn] == (
        []
        if needs is None
        else [f"Expected calls of {needs}() of the weighting, got none in 3 calls: "[:60]]
    )
