"""A sweep that runs, as sections of a page: operating points so far, a network to choose, each run.

It has the figures of the report and gives no verdict: methods are compared once all is done.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from analysis.compute.chosen_runs import ChosenRuns
from analysis.compute.findings import Findings, find
from analysis.load.axes import NONE, priority_texts
from analysis.load.groups import Group, groups_of
from analysis.load.plans import Asked
from analysis.load.run_files import RunFiles
from analysis.load.runs import COSTS, VALIDATION, Loaded, load_runs, on_validation
from analysis.page import fragment
from analysis.render.section import Part, Section
from analysis.render.table import Column, Table
from analysis.sections.operating_points import MAX_FIGURES, operating_point_figures
from analysis.sections.overview_tables import operating_point_table
from analysis.sections.picker import picker
from analysis.sections.trends import run_curves
from mtl.errors import UserError, printable
from mtl.spec import Spec, method_text
from mtl.store import Store
from mtl.store.states import StoredRun, read_run, run_names

KEPT = ("per_pixel_prior", *COSTS)
"""Of a manifest: a thousand whole ones would fill the memory of whoever serves the page."""
STATE_ORDER = ("running", "failed", "damaged", "partial", "paused", "done")
"""What happens and what went wrong comes first."""
RUN_COLUMNS = ("method", "priorities", "seed", "setting", "state", "reason", "run")


class LiveRuns:
    """The runs of a sweep, each read when its files change.

    Args:
        store: opened for reading.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked = Asked(())
        self._names: dict[str, list[str]] = {}
        self._runs: dict[str, StoredRun] = {}
        self._groups: list[Group] = []

    def look(self, asked: Asked) -> bool:
        """Read what is new of the runs asked for; return whether a run has another state.

        Raises:
            StoreUnreachableError: if object storage does not answer.
        """
        is_new = asked != self._asked
        ids = asked.run_ids
        unfinished = [i for i in ids if i not in self._runs or self._runs[i].state != "done"]
        names = run_names(self._store, unfinished)
        suspects = [
            i
            for i in unfinished
            if names[i] != self._names.get(i) or self._runs[i].state not in ("done", "missing")
        ]
        known = {i: run.spec for i, run in self._runs.items() if run.spec is not None}
        read = partial(self._read, names, known)
        for run in self._store.for_each(read, suspects):
            before = self._runs.get(run.run_id)
            is_new |= before is None or (before.state, before.reason) != (run.state, run.reason)
            self._runs[run.run_id] = run
        self._names |= names
        specs = {i: spec for i in ids if (spec := self._runs[i].spec) is not None}
        if asked != self._asked or specs.keys() != known.keys():
            self._groups = groups_of(asked, specs) if specs else []
        self._asked = asked
        return is_new

    def _read(
        self, names: Mapping[str, list[str]], known: Mapping[str, Spec], run_id: str
    ) -> StoredRun:
        run = read_run(self._store, run_id, known.get(run_id), names[run_id])
        if run.state != "done":
            return run
        try:
            manifest = self._store.manifest(run_id) or {}
        except (OSError, UserError):
            manifest = {}
        return replace(run, manifest={name: manifest[name] for name in KEPT if name in manifest})

    def titles(self) -> dict[str, str]:
        """Return label -> title of the sets of runs, where there are several."""
        if len(self._groups) < 2:
            return {}
        return {group.label: group.title for group in self._groups}

    def label_of(self, run_id: str) -> str:
        """Return the label of the set that holds a run, named by its id or how that begins."""
        for group in self._groups:
            if any(held.startswith(run_id) for held in group.run_ids):
                return group.label
        return ""

    def overview(self, label: str) -> str:
        """Return a set of runs as HTML, the first one's without a label: points, choice, all runs.

        The choice is among what has been trained; what the user has set is kept by the page.
        """
        try:
            findings = self.findings(label)
        except UserError as error:
            words = Section("points", "Operating points", str(error), ())
            return fragment([words, self._run_section()])
        choice = picker(findings, RunFiles([self._store]), VALIDATION)
        sections = [_points(findings), *filter(None, [choice]), self._run_section()]
        return fragment(sections, findings)

    def findings(self, label: str) -> Findings:
        """Return what the finished runs of a set say so far on validation.

        Raises:
            UserError: where they may not be shown together.
        """
        chosen = [group for group in self._groups if label in ("", group.label)]
        if self._groups and not chosen:
            raise UserError(f"No runs of this sweep that have begun are {printable(label, 200)}.")
        group = (chosen or [Group((), ())])[0]
        loaded = self._loaded(group)
        axes, _ = loaded.axes()
        return find(on_validation(loaded), axes, group.tuned, group.primary, is_over=False)

    def _loaded(self, group: Group) -> Loaded:
        # What tells the runs apart has made the group; nothing on the page asks for it again.
        return load_runs([self._runs[run_id] for run_id in group.run_ids], with_fields=False)

    def run_page(self, run_id: str) -> str:
        """Return the curves of one run, named by its id or how that begins, as HTML."""
        ids = [i for i, run in self._runs.items() if i.startswith(run_id) and run.spec is not None]
        groups = [group for group in self._groups if ids and ids[0] in group.run_ids]
        if len(ids) != 1 or not groups:
            words = (
                "Several runs of this sweep have names that begin so."
                if len(ids) > 1
                else "No run of this sweep that has begun has this name."
            )
            return fragment([Section("curves", f"Run {printable(run_id, 40)}", words, ())])
        run = self._runs[ids[0]]
        assert run.spec is not None
        axes, _ = self._loaded(groups[0]).axes()
        chosen = ChosenRuns(
            method_text(run.spec), 0, run.spec.priorities, ((run.spec.seed, run.run_id),)
        )
        priorities = "" if run.spec.priorities is None else f" at {self._priorities()[run.run_id]}"
        reason = f": {run.reason.rstrip('.')}" if run.reason else ""
        lead = f"{method_text(run.spec)}{priorities}, seed {run.spec.seed}, {run.state}{reason}."
        return fragment([run_curves(chosen, axes, RunFiles([self._store]), lead)])

    def _priorities(self) -> dict[str, str]:
        """Return run id -> its priorities as all of a page write them."""
        specs = {i: run.spec for i, run in self._runs.items() if run.spec is not None}
        held = {i: spec.priorities for i, spec in specs.items() if spec.priorities is not None}
        texts = priority_texts(held.values())
        return {run_id: texts[priorities] for run_id, priorities in held.items()}

    def _run_section(self) -> Section:
        """Return every run that has begun, what happens and what went wrong first."""
        asked = [self._runs[run_id] for run_id in self._asked.run_ids]
        runs = [run for run in asked if run.state != "missing"]
        counts = Counter(run.state for run in runs)
        shown = [f"{number} {state}" for state, number in counts.most_common()]
        runs.sort(key=lambda run: STATE_ORDER.index(run.state))
        texts = self._priorities()
        titles = self.titles()
        settings = {i: titles.get(group.label, "") for group in self._groups for i in group.run_ids}
        records = [
            {
                "method": method_text(run.spec),
                "priorities": texts.get(run.run_id, NONE),
                "seed": run.spec.seed,
                "setting": settings.get(run.run_id, ""),
                "state": run.state,
                "reason": run.reason,
                "run": run.run_id,
            }
            for run in runs
            if run.spec is not None
        ]
        columns = [Column(name, name) for name in RUN_COLUMNS if titles or name != "setting"]
        caption = "Every run that has begun; its name leads to its curves."
        table = Table.of("runs", caption, records, columns, num_words=len(columns))
        return Section("runs", "Runs", f"{', '.join(shown) or 'None has begun'}.", (table,))


def _points(findings: Findings) -> Section:
    """Return the operating points so far, or that there are none."""
    title = "Operating points"
    if not findings.points:
        return Section("points", title, "No run has a usable result yet.", ())
    figures = operating_point_figures(findings, is_over=False)
    lead = (
        f"What a setting gives on every task at once, {VALIDATION} split. Means move while seeds "
        "are missing. Whether methods differ is tested by the report once all is done, on the test "
        "split."
    )
    parts: tuple[Part, ...] = (*figures[:MAX_FIGURES], operating_point_table(findings, VALIDATION))
    return Section("points", title, lead, parts)
