"""The first page of a sweep: its figures, its tables and their files."""

import itertools
import re

from analysis.load.axes import TIMES
from analysis.reports import write_reports
from analysis.sections.settings import differences_text, settings_section
from mtl.spec.sections import ARCHITECTURES, NetworkSpec
from tests.analysis.compute.test_settings import by_hand, compared, done, fill, run


def test_figures_show_points_fronts_and_metrics_against_numbers(store):
    fill(store, by_hand)
    for rate, seed in itertools.product((1e-3, 3e-4), (0, 1)):
        for num in (100, 200):
            done(store, run("lsb", seed, rate, num, priority=0.25), 0.4)
    (made,) = compared(store)
    section = settings_section(made, 0)
    assert {figure.name for figure in section.figures} == {
        "points_depth_segmentation",
        "fronts_depth_segmentation",
        "against_optimizer_learning_rate",
        "against_data_num_train",
    }
    by_name = {figure.name: figure for figure in section.figures}
    (points,) = by_name["points_depth_segmentation"].panels
    styles = {(mark.style.colour, mark.style.symbol) for mark in points.marks}
    assert len(styles) == len(points.marks) == 4 * 2
    assert len({colour for colour, _ in styles}) == 4, "a colour for each setting"
    fronts = by_name["fronts_depth_segmentation"]
    assert len(fronts.panels) == 4
    assert len({(panel.x.limits, panel.y.limits) for panel in fronts.panels}) == 1
    against = by_name["against_optimizer_learning_rate"].panels
    assert len(against) == 2 * 2, "tasks x image counts"
    assert [value for value, _ in against[0].x.ticks] == [3e-4, 1e-3]
    single = next(mark for mark in against[0].marks if "single seeds" in mark.name)
    assert len(single.x) == 2 * 3, "rates x seeds"
    assert f"4 settings of {made_fields(made)} {TIMES} 2 methods" in section.lead
    assert len({panel.name for figure in section.figures for panel in figure.panels}) == 1 + 4 + 8


def test_sentence_on_differences_says_how_many_seeds_it_takes(store):
    fill(store, by_hand)
    (made,) = compared(store)
    number = len(made.differences)
    assert number == 2 * (4 + 4)  # tasks x (methods, rates): image counts are not paired
    text = differences_text(made)
    assert f"None of {number} paired differences can be significant" in text
    assert "the minimum attainable p of one test is 0.25 with so few seeds" in text
    assert "with 10 seeds one of them could be" in text
    assert number * 2 / 2**9 > 0.05 > number * 2 / 2**10


def made_fields(made) -> str:
    names = {"optimizer.learning_rate": "learning rate", "data.num_train": "training images"}
    return " and ".join(names[field] for field in made.family.fields)


def test_many_settings_share_colours_by_field_and_differ_in_marker(store):
    for name, encoder in itertools.product(ARCHITECTURES, ("mobilenetv2_100", "test_efficientnet")):
        network = NetworkSpec(architecture=name, encoder=encoder)
        done(store, run("lsb", 0, network=network), 0.5)
    (made,) = compared(store)
    (figure,) = settings_section(made, 0).figures
    styles = {(mark.style.colour, mark.style.symbol) for mark in figure.panels[0].marks}
    assert len(styles) == 10
    assert len({colour for colour, _ in styles}) == len(ARCHITECTURES)
    assert "Colour: architecture. Marker: method and encoder." in figure.caption


def test_costs_that_no_run_records_are_said_to_be_unknown(store):
    done(store, run(), 0.5, num_parameters=2_500_000)
    done(store, run(rate=1e-4), 0.5)
    (made,) = compared(store)
    table = settings_section(made, 0).tables[0]
    assert "parameters (M)" in table.head
    assert "s an epoch" not in table.head
    assert "so unknown: GFLOPs an image, s an epoch and peak memory (MiB)." in table.caption
    assert table.raw["num_parameters"].notna().sum() == 1


def test_page_says_why_sets_stay_apart(store, tmp_path):
    done(store, run(), 0.5)
    done(store, run(rate=1e-4), 0.6)
    done(store, run(data={"num_test": 50}), 0.7)
    reports = write_reports([store], tmp_path)
    page = (tmp_path / "report.html").read_text()
    apart = re.search(
        r"2 sets of settings stay apart: test images (\d+) and test images (\d+)\.", page
    )
    assert apart is not None
    assert set(apart.groups()) == {"100", "50"}
    assert "so that their values say nothing of each other" in page
    for label, report in reports.items():
        if label:
            assert report.path.is_file()
    tables = {path.name for path in (tmp_path / "tables").glob("settings*")}
    assert tables == {"settings.csv", "settings.tex", "settings_2.csv", "settings_2.tex"}
    # One terminal table for each set, under its title; the path once.
    text = reports[""].to_text()
    assert len(re.findall(r"^test images \d+$", text, re.MULTILINE)) == 2
    assert text.count("Report: ") == 1
