"""The weighting methods by name and what each asks of its user; no torch.

`torchjd:<Name>` is a gradient aggregator, or FAMO, of the library TorchJD, an optional extra. Where
the library has no default for a parameter, the one given here is its paper's or the mildest; a
contract test compares the table with the library.

A method of one's own is `module:Name`, a `Weighting` with an attribute `needs` (docs/extending.md).
One of this project is an entry here, a `Weighting` in a file of `mtl.weighting`, and an entry in
`mtl.weighting.WEIGHTINGS`.
"""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field

from mtl.errors import UsageError
from mtl.spec.code import OWN, TORCHJD, is_reference, load_object
from mtl.spec.strict import canonical_float, checked_name

OptionValue = float | int | None
"""None where it is the default means that the option is off."""


@dataclass(frozen=True)
class MethodNeeds:
    """What a weighting method asks of its user."""

    takes_priorities: bool = False
    """True where `RunSpec.priorities` steers the method; False where it must be None."""
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    """Option name -> default. A whole number as default asks for whole numbers."""
    positive_options: frozenset[str] = frozenset()
    """Options that must be above 0; the others must be at least 0."""
    minimum: Mapping[str, float] = field(default_factory=dict)
    """Options that must be at least this."""
    draws: bool = False
    """True where the method draws random numbers: it gets the run's seed."""
    uses_loss_kinds: bool = False
    """True where the method treats regressions and classifications differently."""
    has_periods: bool = False
    """True where the weights are set again after each period."""
    min_tasks: int = 1
    """Fewer tasks than this give the method nothing to work on."""
    needs_gradients: bool = False
    """True where the gradients of each task are looked at: one backward pass a task, and an
    architecture that shares parameters. These act on each micro-batch, not on the whole batch."""

    def __post_init__(self) -> None:
        """Refuse defaults that are no numbers: they would have no canonical form."""
        for name, default in self.options.items():
            if default is not None and not _is_number(default):
                raise UsageError(
                    f"Expected a number or None as default of the option {name!r}, got "
                    f"{default!r:.100}. Number the choices, or make a method of each."
                )


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


OWN_METHODS: dict[str, MethodNeeds] = {
    "equal": MethodNeeds(),
    "fixed": MethodNeeds(takes_priorities=True),
    "scaled_fixed": MethodNeeds(takes_priorities=True),
    "lsb": MethodNeeds(
        takes_priorities=True,
        options={"increase_rate": 0.02, "clamp": None},
        minimum={"clamp": 1.0},
        has_periods=True,
    ),
    # At the network's own rate of the supplement, section 3.
    "uncertainty": MethodNeeds(
        options={"weight_lr": 1e-4},
        positive_options=frozenset({"weight_lr"}),
        uses_loss_kinds=True,
    ),
    "imtl_l": MethodNeeds(options={"weight_lr": 1e-4}, positive_options=frozenset({"weight_lr"})),
    "dwa": MethodNeeds(
        options={"temperature": 2.0},
        positive_options=frozenset({"temperature"}),
        has_periods=True,
    ),
    "gls": MethodNeeds(),
    "gradnorm": MethodNeeds(
        options={"alpha": 1.5, "weight_lr": 0.025},
        positive_options=frozenset({"weight_lr"}),
        needs_gradients=True,
    ),
    "rlw": MethodNeeds(draws=True),
    "stch": MethodNeeds(
        takes_priorities=True, options={"mu": 0.1}, positive_options=frozenset({"mu"})
    ),
}


def _aggregator(
    positive: tuple[str, ...] = (), min_tasks: int = 1, **options: OptionValue
) -> MethodNeeds:
    return MethodNeeds(
        options=options,
        positive_options=frozenset(positive),
        draws=True,
        min_tasks=min_tasks,
        needs_gradients=True,
    )


TORCHJD_METHODS: dict[str, MethodNeeds] = {
    "FAMO": MethodNeeds(options={"lr": 0.025, "weight_decay": 1e-3}, draws=True),
    "AlignedMTL": _aggregator(),
    "CAGrad": _aggregator(c=0.4, norm_eps=1e-4),
    "ConFIG": _aggregator(),
    "DualProj": _aggregator(),
    "ExcessMTL": _aggregator(("robust_step_size",), robust_step_size=1.0, n_warmup_steps=0),
    "FairGrad": _aggregator(alpha=1.0),
    "GradDrop": _aggregator(),
    "GradVac": _aggregator(beta=0.5, eps=1e-8),
    "IMTLG": _aggregator(),
    "Krum": _aggregator(("n_selected",), min_tasks=3, n_byzantine=0, n_selected=1),
    "MGDA": _aggregator(("epsilon", "max_iters"), epsilon=1e-3, max_iters=100),
    "NashMTL": _aggregator(
        ("update_weights_every", "optim_niter"),
        min_tasks=2,
        max_norm=1.0,  # 0 is off
        update_weights_every=1,
        optim_niter=20,
    ),
    "PCD": _aggregator(tau=0.02, beta=0.999, eps=1e-8),
    "PCGrad": _aggregator(),
    "TrimmedMean": _aggregator(trim_number=0),
    "UPGrad": _aggregator(),
}
"""TorchJD's aggregators of the tasks' gradients, and FAMO. Its other functions of the losses are
our own methods, or weights that no priority steers."""

METHODS: dict[str, MethodNeeds] = {
    **OWN_METHODS,
    **{TORCHJD + name: needs for name, needs in TORCHJD_METHODS.items()},
}


def check_method(name: str) -> str:
    """Return `name`; raise a `ValueError` that lists the known methods unless it is one.

    Of `module:Name` the form alone is looked at.
    """
    if name in METHODS or is_reference(name):
        return name
    if name.startswith(TORCHJD):
        checked_name(name.removeprefix(TORCHJD), TORCHJD_METHODS, "TorchJD method")
    return checked_name(name, [*OWN_METHODS, f"{TORCHJD}<Name>", OWN], "method")


def needs_of(method: str) -> MethodNeeds:
    """Return what a method asks of its user; the module of `module:Name` is imported for it.

    Raises:
        ValueError: for an unknown method, or one from outside that does not say what it needs.
    """
    if not is_reference(check_method(method)):
        return METHODS[method]
    needs = getattr(load_object(method, "method"), "needs", None)
    if not isinstance(needs, MethodNeeds):
        raise UsageError(
            f"Expected a Weighting with `needs = MethodNeeds(...)` at {method!r}, got "
            f"{'none' if needs is None else repr(needs):.100}. Add it to the class; without "
            "priorities and options it is MethodNeeds()."
        )
    return needs


def check_options(method: str, given: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Return the options of a method as canonical numbers, those left out at their defaults.

    Raises:
        ValueError: for an option that the method does not have, or one outside its range.
    """
    needs = needs_of(method)
    for name in given:
        checked_name(name, needs.options, "option", of=f"method {method!r}")
    options = {**needs.options, **given}
    return {name: _checked_option(name, options[name], needs) for name in sorted(options)}


def _checked_option(name: str, value: OptionValue, needs: MethodNeeds) -> OptionValue:
    default = needs.options[name]
    if value is None and default is None:
        return None
    minimum = needs.minimum.get(name, 0)
    is_positive = name in needs.positive_options
    number = float(value) if value is not None and _is_number(value) else math.nan
    if not (math.isfinite(number) and (number > 0 if is_positive else number >= minimum)):
        bound = "above 0" if is_positive else f"at least {minimum:g}"
        raise UsageError(f"Expected method_options.{name} to be finite and {bound}, got {value!r}.")
    if isinstance(default, int):
        if number != int(number):
            raise UsageError(f"Expected a whole number for method_options.{name}, got {value}.")
        return int(number)
    return canonical_float(number)
