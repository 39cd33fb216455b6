"""The section in which a reader chooses a network, in Python and in a real browser."""

import asyncio
import json
import re

import numpy as np
import pandas as pd
import pytest

from analysis.compute.choice import candidates, choice_at_equal_weights
from analysis.compute.findings import find
from analysis.load.axes import choose_axes
from analysis.load.matched import by_point
from analysis.load.run_files import NO_FILES, RunFiles
from analysis.load.runs import load_stores
from analysis.load.table import load_table
from analysis.reports import write_reports, write_table_report
from analysis.sections.picker import picker
from mtl.spec import RunSpec
from mtl.store import Store
from tests.analysis.made_findings import words
from tests.chromium import Chromium, find_chromium

needs_browser = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium: the sliders were not moved"
)


def keep_networks(store) -> None:
    for run_id in store.run_ids():
        folder = store.root / "runs" / run_id / "checkpoint"
        folder.mkdir(exist_ok=True)
        (folder / "network.safetensors").write_bytes(b"0")


def findings_of(loaded):
    metrics = {} if "depth_delta1" in loaded.runs else {"depth": "rmse"}
    return find(loaded, choose_axes(loaded.tasks, metrics))


def candidates_of(findings):
    tasks, columns = zip(*((axis.task, axis.column) for axis in findings.axes), strict=True)
    return candidates(by_point(findings.runs, tasks, columns), findings.axes, findings.arms)


def write_table(path, priorities=((0.2, 0.8), (0.5, 0.5), (0.8, 0.2)), seeds=(0, 1, 2), **columns):
    generator = np.random.default_rng(17)
    rows = [
        {
            "method": method,
            "seed": seed,
            "priority_depth": a,
            "priority_segmentation": b,
            "depth_rmse": 1 - 0.5 * a + 0.1 * generator.random(),
            "segmentation_miou": 0.4 + 0.5 * b + 0.1 * generator.random(),
            **columns,
        }
        for method in ("lsb", "fixed <b>&'\"</script>")
        for a, b in priorities
        for seed in seeds
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_choice_is_on_validation_and_shows_test_values(store, synthetic):
    # Two points: the first is better on validation, the second on test.
    for priority, on_validation, on_test in ((1 / 3, 0.9, 0.4), (2 / 3, 0.5, 0.8)):
        spec = synthetic.make_spec("lsb", priority, 0)
        run_id = synthetic.finish(store, spec, synthetic.depth_and_segmentation(on_test, on_test))
        path = store.root / "runs" / run_id / "result.json"
        result = json.loads(path.read_text())
        values = synthetic.depth_and_segmentation(on_validation, on_validation)
        result["selected_metrics"]["validation"] = values
        path.write_text(json.dumps(result))
    keep_networks(store)
    section = picker(findings_of(load_stores([store])), RunFiles((store,)))
    assert section.values["judged_by"] == "validation"
    default = section.values["default"]
    assert default.priorities[0] == pytest.approx(1 / 3)
    assert default.means == (0.4, 0.4)
    assert section.data["points"][0]["shown"] == ["40.0", "40.0"]
    assert "choice is made on the validation split" in words(section)
    assert "with one seed nothing says how sure" in section.lead


def test_only_kept_networks_have_run_ids(full_store):
    section = picker(findings_of(load_stores([full_store])), RunFiles((full_store,)))
    assert {point["run"] for point in section.data["points"]} == {""}
    keep_networks(full_store)
    section = picker(findings_of(load_stores([full_store])), RunFiles((full_store,)))
    for point in section.data["points"]:
        spec: RunSpec = full_store.spec(point["run"])
        assert (spec.method, spec.seed) == (point["arm"], point["seed"])


def test_without_validation_the_words_say_so(tmp_path):
    loaded = load_table(write_table(tmp_path / "runs.csv"))
    section = picker(findings_of(loaded), NO_FILES)
    assert section.values["judged_by"] == "test"
    assert "the chosen ones look better than they are" in words(section)
    assert "come from a table, so there is no network to run" in words(section)
    assert not section.data["from_store"]


def test_complete_validation_columns_of_a_table_are_used(tmp_path):
    path = write_table(
        tmp_path / "runs.csv", validation_depth_rmse=0.5, validation_segmentation_miou=0.5
    )
    section = picker(findings_of(load_table(path)), NO_FILES)
    assert section.values["judged_by"] == "validation"
    assert "depth rmse is the same at every point and decides nothing" in words(section)
    frame = pd.read_csv(path)
    frame.loc[3, "validation_depth_rmse"] = np.nan
    frame.to_csv(path, index=False)
    assert picker(findings_of(load_table(path)), NO_FILES).values["judged_by"] == "test"


def test_nondominated_points_are_offered_with_their_losses(tmp_path):
    findings = findings_of(load_table(write_table(tmp_path / "runs.csv")))
    section = picker(findings, NO_FILES)
    held = candidates_of(findings)
    (table,) = section.tables
    assert table.raw.filter(like="_loss").to_numpy().tolist() == held.losses[held.offered].tolist()
    offered = [point["losses"] for point in section.data["points"]]
    assert offered == held.losses[held.offered].tolist()
    default = section.values["default"]
    assert (default.arm, default.priorities) == held.keys[choice_at_equal_weights(held).index]
    assert f"{len(offered)} of 6 operating points can be chosen" in words(section)


def test_unequal_seeds_and_no_results(tmp_path):
    path = write_table(tmp_path / "runs.csv")
    frame = pd.read_csv(path).drop(index=[0, 1])
    frame.to_csv(path, index=False)
    section = picker(findings_of(load_table(path)), NO_FILES)
    assert "1 to 3 seeds" in words(section)
    write_table(path, depth_rmse=np.inf)
    assert picker(findings_of(load_table(path)), NO_FILES) is None


# In the browser

MOVE = """(() => {{
    const set = (kind, values) => values.forEach((value, k) => {{
        document.getElementById(`picker-${{kind}}-${{k}}`).value = value;
    }});
    set("weight", {weights});
    set("level", {levels});
    document.getElementById("picker-weight-0").dispatchEvent(new Event("input", {{bubbles: true}}));
    return {{...document.getElementById("picker-box").dataset}};
}})()"""
READY = "document.getElementById('picker-box')?.dataset.index !== undefined"


def browse(page, act, *later):
    async def going():
        async with Chromium((1280, 900)) as browser:
            await browser.go(page.absolute().as_uri())
            await browser.until(READY)
            result = await act(browser)
            assert browser.complaints() == []
            assert browser.requests() == [at.absolute().as_uri() for at in (page, *later)]
            return result

    return asyncio.run(going())


def text_of(name: str) -> str:
    return f"document.getElementById('picker-{name}').textContent"


def best_by_hand(held, weights, levels) -> int:
    """Return the place among the points offered of what the reader asks for."""

    def key(losses):
        missed = max(max(x - (1 - v / 100), 0) for x, v in zip(losses, levels, strict=True))
        shares = [w / max(weights) if any(weights) else 1 for w in weights]
        weighted = [share * loss for share, loss in zip(shares, losses, strict=True)]
        return (round(missed, 6), max(weighted) + 0.001 * sum(losses))

    offered = held.losses[held.offered].tolist()
    return offered.index(min(offered, key=key))


@needs_browser
def test_sliders_choose_by_levels_then_by_weights(tmp_path):
    generator = np.random.default_rng(23)
    path = write_table(
        tmp_path / "runs.csv",
        [(k / 20, 1 - k / 20) for k in range(1, 20)],
        seeds=range(5),
    )
    frame = pd.read_csv(path).sample(frac=0.9, random_state=1)  # unequal seeds
    frame["depth_rmse"] += generator.normal(0, 0.1, len(frame))
    frame.to_csv(path, index=False)
    page = write_table_report(path, tmp_path / "out", metrics={"depth": "rmse"}).path
    findings = findings_of(load_table(path))
    held = candidates_of(findings)
    wishes = [([50, 50], [0, 0]), ([0, 0], [0, 0]), ([100, 0], [100, 100]), ([0, 100], [0, 100])]
    wishes += [
        (generator.integers(0, 101, 2).tolist(), generator.integers(0, 101, 2).tolist())
        for _ in range(60)
    ]

    async def act(browser):
        sure = await browser.run(text_of("sure"))
        moves = ", ".join(MOVE.format(weights=w, levels=v) for w, v in wishes)
        return sure, await browser.run(f"[{moves}]")

    sure, shown = browse(page, act)
    choice = choice_at_equal_weights(held)
    assert sure.startswith(f"{choice.sureness:.0%} of 100 resamples of the seeds choose the same")
    assert held.offered[int(shown[0]["index"])] == choice.index
    chosen = {int(state["index"]) for state in shown}
    assert len(chosen) > 4  # the sliders do something
    for (weights, levels), state in zip(wishes, shown, strict=True):
        assert int(state["index"]) == best_by_hand(held, weights, levels), (weights, levels)
        assert int(state["equal"]) == 1


@needs_browser
def test_ties_are_counted(tmp_path):
    path = write_table(tmp_path / "runs.csv", depth_rmse=0.3, segmentation_miou=0.5)
    assert "6 points are equally good" in picker(findings_of(load_table(path)), NO_FILES).lead
    page = write_table_report(path, tmp_path / "out", metrics={"depth": "rmse"}).path

    async def act(browser):
        state = await browser.run(MOVE.format(weights=[50, 20], levels=[0, 0]))
        assert (state["index"], state["equal"]) == ("0", "6")
        assert "6 points are equally good" in await browser.run(text_of("sure"))

    browse(page, act)


@needs_browser
def test_page_of_a_store_shows_values_and_the_command(full_store, synthetic, tmp_path):
    without = Store(tmp_path / "without")
    values = synthetic.depth_and_segmentation(0.5, 0.5)
    synthetic.finish(without, synthetic.make_spec("lsb", 0.5, 0), values)
    bare = write_reports([without], tmp_path / "bare")[""].path
    keep_networks(full_store)
    page = write_reports([full_store], tmp_path / "out")[""].path
    section = picker(findings_of(load_stores([full_store])), RunFiles((full_store,)))
    points = section.data["points"]

    async def act(browser):
        state = await browser.run(MOVE.format(weights=[0, 100], levels=[0, 0]))
        point = points[int(state["index"])]
        assert point["arm"] in await browser.run(text_of("choice"))
        assert point["priorities"] in await browser.run(text_of("choice"))
        for k in range(2):
            assert await browser.run(text_of(f"value-{k}")) == point["shown"][k]
        run_id = point["run"]
        command = await browser.run(text_of("command"))
        assert command == f"python -m mtl.predict STORE {run_id} IMAGE..."
        assert f"seed {point['seed']}, the better of 2 at equal weights" in await browser.run(
            text_of("seed")
        )
        await browser.run("document.getElementById('picker-store').focus()")
        await browser.run("document.getElementById('picker-store').value = ''")
        await browser.type("my runs/it's")
        command = await browser.run(text_of("command"))
        assert command == rf"python -m mtl.predict 'my runs/it'\''s' {run_id} IMAGE..."
        # What no point reaches is named.
        assert await browser.run("document.getElementById('picker-missed').hidden")
        await browser.run(MOVE.format(weights=[50, 50], levels=[100, 100]))
        assert not await browser.run("document.getElementById('picker-missed').hidden")
        missed = await browser.run(text_of("missed"))
        assert re.search(r"misses by least: .*(delta1|miou) by \d+\.\d\d points", missed)
        # The knee point, if there is one, is shown by its button.
        if section.data["knee"] is not None:
            await browser.run("document.getElementById('picker-knee').click()")
            shown = await browser.run("document.getElementById('picker-box').dataset.index")
            assert int(shown) == section.data["knee"]
        # Without a kept network there is no command.
        await browser.go(bare.as_uri())
        await browser.until(READY)
        assert await browser.run("document.getElementById('picker-run').hidden")
        assert not await browser.run("document.getElementById('picker-no-network').hidden")

    browse(page, act, bare)


@needs_browser
@pytest.mark.slow
def test_keyboard_labels_and_narrow_pages(tmp_path):
    table = write_table(tmp_path / "runs.csv")
    page = write_table_report(table, tmp_path / "out", metrics={"depth": "rmse"}).path
    unlabelled = """[...document.querySelectorAll('#picker input')]
        .filter((input) => !input.labels.length || !input.labels[0].textContent.trim()).length"""
    outside = """[...document.querySelectorAll('#picker-box *')].filter((element) => {
        const box = element.getBoundingClientRect();
        return box.width && (box.left < 0 || box.right > innerWidth);
    }).map((element) => element.outerHTML.slice(0, 80))"""

    async def act(browser):
        assert await browser.run(unlabelled) == 0
        await browser.run("document.getElementById('picker-weight-0').focus()")
        for _ in range(3):
            await browser.press("ArrowRight", 39)
        assert await browser.run(text_of("weight-0-shown")) == "53"
        await browser.press("Home", 36)
        assert await browser.run(text_of("weight-0-shown")) == "0"
        await browser.run("document.getElementById('picker-level-0').focus()")
        await browser.press("End", 35)
        asked = await browser.run("document.getElementById('picker-level-0').ariaValueText")
        assert re.fullmatch(r"\d+\.\d+ (m|%)", asked)
        assert await browser.run(text_of("level-0-shown")) == asked
        await browser.run("document.getElementById('picker-reset').click()")
        await browser.until(f"{text_of('weight-0-shown')} === '50'")
        assert await browser.run(text_of("level-0-shown")) == "any"
        await browser.resize(390, 844)
        assert await browser.run("innerWidth") == 390
        assert await browser.run(outside) == []
        # A name that holds HTML is text.
        await browser.run(MOVE.format(weights=[0, 0], levels=[0, 0]))
        assert await browser.run("document.querySelectorAll('#picker-choice *').length") == 0
        assert await browser.run("document.getElementById('picker-command')") is None

    browse(page, act)


@needs_browser
def test_page_in_its_store_names_the_store(store, synthetic):
    values = synthetic.depth_and_segmentation(0.5, 0.5)
    synthetic.finish(store, synthetic.make_spec("lsb", 0.5, 0), values)
    keep_networks(store)
    places = ("sweeps/mine/report", "sweeps/mine/report/a,b")
    pages = [write_reports([store], store.root / at)[""].path for at in places]
    assert all(str(store.root) not in page.read_text() for page in pages)

    async def look() -> list[str]:
        async with Chromium((1280, 900)) as browser:
            found = []
            for page in pages:
                await browser.go(page.as_uri())
                await browser.until(READY)
                found.append(await browser.run(text_of("command")))
            return found

    for command in asyncio.run(look()):
        assert command.startswith(f"python -m mtl.predict {store.root} ")
