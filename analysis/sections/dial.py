"""What do networks between two forks give that nobody trained? Their front beside the forks'."""

from collections.abc import Mapping, Sequence

from analysis.compute.dial import Dial, Ends, dial
from analysis.compute.findings import Findings, prioritised_arms
from analysis.load.axes import Axis
from analysis.load.matched import by_arm
from analysis.load.priorities import Priorities, priority_values, settings_of
from analysis.load.run_files import RunFiles
from analysis.load.runs import mixed_arm
from analysis.load.text import counted, first_items, listed
from analysis.render.section import Section
from analysis.render.table import Column, Table

NAME, TITLE = "dial", "What lies between the forks?"
MAX_NAMED = 3
"""Methods that the lead names; the table holds all."""
MEANING = (
    "A mixed network was not trained: its weights are a mean of two forks' weights, and batch norm "
    "was measured again on the training images. Each was measured on the test split as every "
    "network here. They count in no comparison of methods."
)


def dial_section(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section on mixed networks; None where there are none beside their forks."""
    found = _dials(findings)
    if not found:
        return None
    shown, note = first_items(found, MAX_NAMED, "methods")
    lead = " ".join(_sentence(findings.axes, held) for held in shown) + note
    return Section(NAME, TITLE, lead, (MEANING, _table(findings, found)), {"dials": tuple(found)})


def _dials(findings: Findings) -> list[Dial]:
    if findings.reference is None or findings.mixed.empty:
        return []
    forks, mixed = (by_arm(runs, findings.axes) for runs in (findings.runs, findings.mixed))
    ends = _ends(findings)
    found = (
        dial(arm, forks[arm], held, ends[mixed_arm(arm)], findings.axes, findings.reference)
        for arm in prioritised_arms(findings)
        if (held := mixed.get(mixed_arm(arm)))
    )
    return [held for held in found if held is not None]


def _ends(findings: Findings) -> Mapping[str, dict[Priorities, Ends]]:
    """Return arm of mixed runs -> priorities -> their forks."""
    runs, found = findings.mixed, dict[str, dict[Priorities, Ends]]()
    settings = settings_of(runs, [axis.task for axis in findings.axes])
    for arm, p, pair, mix in zip(
        runs["arm"], settings, runs["mixed_between"], runs["mix"], strict=True
    ):
        if p is not None:
            first, second = pair
            found.setdefault(arm, {})[p] = Ends(first, second, mix)
    return found


def _sentence(axes: Sequence[Axis], held: Dial) -> str:
    off = [
        f"{axis.name} {axis.shown(abs(mean), more_decimals=1)} {axis.difference_unit} "
        f"{'better' if mean >= 0 else 'worse'} (at worst {axis.shown(least, signed=True)})"
        for axis, mean, least in zip(axes, held.mean_gains, held.least_gains, strict=True)
    ]
    networks = counted(len(held.points), "mixed network", "mixed networks")
    return (
        f"{held.arm}: hypervolume {held.hypervolume_forks:.4g} of "
        f"{counted(held.num_forks, 'fork', 'forks')}, {held.hypervolume:.4g} with {networks} "
        "between them; more points alone raise it. Against the straight line between their forks "
        f"these are on the mean {listed(off)}."
    )


def _table(findings: Findings, found: Sequence[Dial]) -> Table:
    axes = findings.axes
    tasks = [axis.task for axis in axes]
    records = []
    for held in found:
        for point in held.points:
            record = {
                "method": mixed_arm(held.arm),
                "priorities": findings.shown_priorities(point.priorities),
                "between": " and ".join(
                    map(findings.shown_priorities, (point.ends.first, point.ends.second))
                ),
                "mix": point.ends.mix,
                "num_seeds": len(held.seeds),
                **priority_values(point.priorities, tasks),
            }
            for axis, mean, gain in zip(axes, point.means, point.gains, strict=True):
                record |= {f"{axis.column}_mean": mean, f"{axis.column}_gain": gain}
            records.append(record)
    columns = [
        Column("method", "method"),
        Column("priorities", "priorities"),
        Column("between", "between"),
        Column("mix", "mix", ".2f"),
        Column("num_seeds", "seeds"),
        *map(Column, priority_values(None, tasks)),
    ]
    for axis in axes:
        columns += [
            _shown(axis, f"{axis.column}_mean", axis.title),
            _shown(axis, f"{axis.column}_gain", "off the line", signed=True),
        ]
    return Table.of(
        NAME,
        "Networks mixed between two forks: means over seeds on the test split, and by how much "
        "they are better (+) or worse than on the straight line between their forks.",
        records,
        columns,
        num_words=3,
    )


def _shown(axis: Axis, key: str, head: str, *, signed: bool = False) -> Column:
    return Column(key, head, lambda record: axis.shown(record[key], signed=signed))
