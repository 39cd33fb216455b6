"""Which runs a trial trains together, in one process: those that share batches, and cost."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from mtl.spec import RunSpec, Spec
from sweeps.plan.cost import StepKey, rate_key, step_key
from sweeps.text import counted

Pack = int | Literal["auto"]
"""Runs in a pack at most; `auto`: as many as a measurement on a GPU finds fastest."""

SEPARATOR = ", "
"""Between the values of a pack's members in the config of their trial."""


def pack_key(spec: RunSpec) -> tuple[Any, ...]:
    """Return what runs have in common that share all batches and take as long as each other."""
    batches = (spec.data, spec.seed, spec.horizontal_flips, spec.epochs, spec.forked_after)
    return (rate_key(spec), batches)


def packs_of(
    run_ids: Sequence[str],
    runs: Mapping[str, Spec],
    sizes: Mapping[StepKey, int],
    slots: int,
    alone: Collection[str] = (),
) -> list[tuple[str, ...]]:
    """Return the runs in packs; in a pack, and by their firsts, in the order of the plan.

    Packs stay smaller than they could be where each slot has a pack anyway: another GPU gives more
    than another member.

    Args:
        run_ids: what is to be trained, in the order of the plan.
        runs: run id -> spec.
        sizes: step key -> members of a pack at most; kinds of runs that are left out, mixed ones
            and training functions of one's own, are not packed.
        slots: trials side by side.
        alone: runs that are not packed.
    """
    share = math.ceil(len(run_ids) / slots)
    packs: list[list[str]] = []
    room: dict[tuple[Any, ...] | None, list[str]] = {}
    """Of what runs have in common -> the pack that the next of them joins."""
    for run_id in run_ids:
        spec, key, most = runs[run_id], None, 1
        if isinstance(spec, RunSpec) and not spec.is_mixed and run_id not in alone:
            key, most = pack_key(spec), min(share, sizes.get(step_key(spec), 1))
        pack = room.get(key)
        if key is None or pack is None or len(pack) >= most:
            pack = []
            packs.append(pack)
            if key is not None:
                room[key] = pack
        pack.append(run_id)
    return [tuple(pack) for pack in packs]


def joined(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings of several runs as one: what they share, else all values in a text."""
    first = settings[0]
    return {
        name: first[name]
        if all(held[name] == first[name] for held in settings)
        else SEPARATOR.join(str(held[name]) for held in settings)
        for name in first
    }


def members(config: Mapping[str, Any]) -> list[str]:
    """Return the ids of the runs that a trial trains, from its config."""
    return str(config["run_id"]).split(SEPARATOR)


def fastest(rates: Mapping[int, float], min_gain: float = 1.05) -> int:
    """Return how many runs to train together, from images a second of all of them by their number.

    More are taken as long as each step up gains a twentieth; 1 where nothing was measured.
    """
    best = 1
    for number, rate in sorted(rates.items()):
        if number > best:
            if rate < min_gain * rates.get(best, math.inf):
                break
            best = number
    return best


def rates_text(rates: Mapping[int, float]) -> str:
    """Return what was measured, and how many runs are trained together for that."""
    if 1 not in rates:
        return "the GPU's memory has no room for a second run; none are packed."
    gains = ", ".join(
        f"{number} at once {rate / rates[1]:.2f} x" for number, rate in rates.items() if number > 1
    )
    return (
        f"{rates[1]:,.4g} images a second alone, {gains or 'no room for more'}; "
        f"{counted(fastest(rates), 'run')} a pack."
    )


def at_a_time(slots: int, pack: Pack = 1) -> str:
    """Return `2 runs at a time`, or how many packs."""
    if pack == 1:
        return f"{counted(slots, 'run')} at a time"
    of = "" if pack == "auto" else f" of up to {pack} runs"
    return f"{counted(slots, 'pack')}{of} at a time"


def pack_notes(pack: Pack, has_gpus: bool | None) -> tuple[str, ...]:
    """Return what the user should know of `--pack`; None: whether there are GPUs is not known."""
    if pack == 1:
        return ()
    if has_gpus is False:
        if pack == "auto":
            return ("--pack auto: runs are trained one by one where there is no GPU.",)
        return (f"--pack {pack}: without a GPU packed runs are not faster than single ones.",)
    if pack == "auto":
        return (
            "--pack auto: how many runs train together on a GPU is measured as the sweep starts; "
            "no gain is in the price unless it is known of packed runs in the store.",
        )
    return (
        f"--pack {pack}: up to {pack} runs train together in one process; no gain is in the price "
        "unless it is known of packed runs in the store.",
    )
