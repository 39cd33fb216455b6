"""How many seeds settle each comparison: when a verdict was reached, and what more it takes."""

from collections.abc import Sequence
from typing import Any

from analysis.compute.findings import Findings
from analysis.compute.inference import MIN_SEEDS
from analysis.compute.seeds import (
    MAX_SEEDS,
    PLANNED_SEEDS,
    POWER,
    Compared,
    Settling,
    settling,
)
from analysis.load.axes import MINUS, NONE, shown_number, volume_unit
from analysis.load.matched import by_arm, matched_runs
from analysis.load.run_files import RunFiles
from analysis.load.text import counted, listed
from analysis.render.section import Section
from analysis.render.table import Column, Table

TITLE = "How many seeds settle it?"
SHARE = f"{100 * POWER:.0f} %"


def seeds_section(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section on the number of seeds; None where no comparison is tested."""
    compared = sorted(
        (c for c in findings.comparisons if c.test is not None), key=lambda c: not c.is_primary
    )
    if not compared or findings.reference is None:
        return None
    runs = by_arm(findings.runs, findings.axes)
    tested = []
    for c in compared:
        matched = matched_runs(runs, (c.arm_a, c.arm_b), same_seeds=True)
        assert not isinstance(matched, str), "it was tested"
        both = matched.a.metrics, matched.b.metrics
        tested.append(Compared(c.arm_a, c.arm_b, c.is_primary, *both))
    found = settling(tested, findings.reference, findings.axes)
    parts = (_table(findings, found), _method(found))
    values = {"comparisons": found, "power": POWER, "planned_seeds": PLANNED_SEEDS}
    return Section("seeds", TITLE, _lead(found[0]), parts, values)


def _lead(held: Settling) -> str:
    a, b = held.arm_a, held.arm_b
    if held.settled_with is None:
        reached = f"{a} against {b} is not settled with {counted(held.num_seeds, 'seed', 'seeds')}."
    else:
        reached = (
            f"The verdict on {a} against {b} was reached with the first {held.settled_with} of "
            f"{held.num_seeds} seeds and kept."
        )
    if held.sd is None:
        return f"{reached} Fewer than {MIN_SEEDS} seeds say nothing of how many it takes."
    spread = f"seeds differ by {shown_number(held.mean, '+.2g')} on average, sd {held.sd:.2g}"
    if held.num_needed is None:
        more = f"a difference of this mean would take more than {MAX_SEEDS} seeds"
        if held.sd == 0:
            more = "nothing can be said of more seeds, as these are alike"
    elif held.num_more:
        seeds = counted(held.num_more, "more seed", "more seeds")
        more = f"{seeds} ({held.num_needed} in all) would settle it in {SHARE} of repetitions"
    else:
        more = f"{held.num_needed} seeds settle it in {SHARE} of repetitions: there are enough"
    smallest = [
        f"{seeds} seeds {size:.2g}"
        for seeds, size in zip(PLANNED_SEEDS, held.smallest, strict=True)
    ]
    also = (
        f" The smallest mean difference that so many settle: {listed(smallest)}." if held.sd else ""
    )
    return f"{reached} The {spread}; with this spread {more}.{also}"


def _method(found: Sequence[Settling]) -> str:
    num_others = sum(not held.is_primary for held in found)
    holm = ""
    if num_others > 1:
        holm = (
            f" Holm corrects {num_others} pairs, which then take more than said here: this is for "
            "p < .05 without correction, from as many seeds on as can be significant at all."
        )
    return (
        "How it is found: a seed's difference is that of the two hypervolumes of its own runs; "
        "normal differences with their mean and standard deviation; the power of the seed-level "
        "permutation test by that of Student's paired test (noncentral t), with up to 10 seeds by "
        f"simulation.{holm} The difference and the spread seen are themselves uncertain with few "
        "seeds, so take the numbers as a plan. Decide on a number of seeds before training them: "
        "adding seeds until a test is significant finds differences where there are none."
    )


def _table(findings: Findings, found: Sequence[Settling]) -> Table:
    def smallest_key(seeds: int) -> str:
        return f"smallest_with_{seeds}"

    records: list[dict[str, Any]] = []
    for held in found:
        smallest = held.smallest or (None,) * len(PLANNED_SEEDS)
        record = {**vars(held), "num_more": held.num_more}
        record |= {smallest_key(n): v for n, v in zip(PLANNED_SEEDS, smallest, strict=True)}
        record["p_by_seeds"] = " ".join(f"{p:.6g}" for p in held.p)
        records.append(record)

    def more(record: dict[str, Any]) -> str:
        if record["num_needed"] is not None:
            return f"{record['num_more']}"
        return NONE if not record["sd"] else "too many"

    return Table.of(
        "seeds",
        "Reached with: seeds, added in their order, from which on the verdict was significant and "
        "stayed so (the reference point being that of all runs). Difference: of the hypervolumes "
        f"of each seed, mean and standard deviation, in {volume_unit(findings.axes)}. More seeds: "
        f"to find such a difference at p < .05 in {SHARE} of repetitions. Last columns: the "
        "smallest mean difference that so many seeds find as often.",
        records,
        [
            Column("arm_a", "methods", lambda r: f"{r['arm_a']} {MINUS} {r['arm_b']}"),
            Column("arm_b"),
            Column("is_primary", "primary", lambda r: "yes" if r["is_primary"] else ""),
            Column("num_seeds", "seeds"),
            Column("settled_with", "reached with", "d"),
            Column("mean", "difference", "+.3g"),
            Column("sd", "sd", ".3g"),
            Column("num_needed"),
            Column("num_more", "more seeds", more),
            *(Column(smallest_key(n), f"{n} seeds", ".2g") for n in PLANNED_SEEDS),
            Column("p_by_seeds"),
        ],
    )
