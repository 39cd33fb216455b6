"""The page in a real browser: drawn without errors or requests, legible at every width and mode."""

import asyncio
import base64
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.reports import write_reports
from mtl.store import Store
from tests.analysis.conftest import depth_and_segmentation, fill, finish, make_spec, write_plan
from tests.chromium import Chromium, find_chromium

WIDTHS = (1280, 390)
MIN_FONT_PIXELS = 9.0
MAX_CLOSED_HEIGHT = 6_200
"""In pixels; a third of what the page of the default job had before parts of it were folded."""
CONTROLLABILITY = "document.getElementById('controllability')"
NUM_CLOSED = "document.querySelectorAll('details:not([open])').length"
OPEN_ALL = "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
TOO_WIDE = """[...document.querySelectorAll(".plot .main-svg")].filter((drawn) => {
    const plot = drawn.closest(".plot");
    return plot.clientWidth && drawn.clientWidth > plot.clientWidth + 1;
}).map((drawn) => drawn.closest(".plot").id)"""

UNDRAWN = """[...document.querySelectorAll(".plot")]
    .filter((plot) => plot.clientWidth && !plot.querySelector(".main-svg"))
    .map((plot) => plot.id)"""
ALL_DRAWN = f"document.readyState === 'complete' && ({UNDRAWN}).length === 0"
OVERFLOWING = """[...document.querySelectorAll("main *")].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width && box.right > window.innerWidth + 1 && !element.closest(".scroll, svg");
}).map((element) => element.outerHTML.slice(0, 120))"""
SMALL_TEXTS = f"""[...document.querySelectorAll(".plot text")]
    .filter((text) => text.textContent.trim()
    && parseFloat(getComputedStyle(text).fontSize) < {MIN_FONT_PIXELS})
    .map((text) => text.textContent)"""
CUT_OFF = """[...document.querySelectorAll(".plot")].flatMap((plot) => {
    const outer = plot.getBoundingClientRect();
    const texts = [...plot.querySelectorAll(".xtick text, .ytick text, .annotation text")];
    return texts.filter((text) => {
        const box = text.getBoundingClientRect();
        return box.width && (box.left < outer.left - 2 || box.right > outer.right + 2);
    }).map((text) => `${plot.id}: ${text.textContent}`);
})"""

needs_browser = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium: the page was not looked at in a browser"
)


async def _look(page: Path, act: Callable[[Chromium], Any]) -> Any:
    async with Chromium((1280, 900)) as browser:
        await browser.go(page.absolute().as_uri())
        await browser.until(ALL_DRAWN)
        return await act(browser)


async def _show(browser: Chromium, width: int, scheme: str) -> None:
    await browser.resize(width, 900)
    await browser.prefer(scheme)
    await browser.until(f"document.querySelector('.plot').clientWidth < {width}")
    await asyncio.sleep(0.5)  # the page draws again a moment after it was resized
    await browser.until(ALL_DRAWN)


async def _printed(browser: Chromium) -> bytes:
    """Return the page as PDF."""
    answer = await browser._call("Page.printToPDF", preferCSSPageSize=True)
    return base64.b64decode(answer["data"])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    store = Store(folder / "results")
    write_plan(store, "priority_grid", fill(store))
    return write_reports([store], folder / "report")[""].path


@needs_browser
@pytest.mark.slow
def test_folded_parts_open_by_links_and_are_printed(page):
    async def act(browser: Chromium) -> None:
        assert await browser.run("document.documentElement.scrollHeight") <= MAX_CLOSED_HEIGHT
        # Links open what they lead to, and its figures have their width.
        assert not await browser.run(f"{CONTROLLABILITY}.open")
        await browser.run("document.querySelector('nav a[href=\"#controllability\"]').click()")
        await browser.until(f"{CONTROLLABILITY}.open")
        await browser.until(ALL_DRAWN)
        assert await browser.run(f"{CONTROLLABILITY}.querySelector('.main-svg').clientWidth") > 300
        assert await browser.run(TOO_WIDE) == []
        # Printing opens all, and closes it again.
        closed = await browser.run(NUM_CLOSED)
        assert closed > 5
        await browser.run("window.dispatchEvent(new Event('beforeprint'))")
        assert await browser.run(NUM_CLOSED) == 0
        await browser.until(ALL_DRAWN)
        await browser.run("window.dispatchEvent(new Event('afterprint'))")
        assert await browser.run(NUM_CLOSED) == closed
        printed = await _printed(browser)
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 6
        await browser.run(OPEN_ALL)
        await browser.until(ALL_DRAWN)
        assert len(await _printed(browser)) == len(printed), "folded parts are printed, too"
        assert browser.complaints() == []
        assert browser.requests() == [page.absolute().as_uri()]

    asyncio.run(_look(page, act))


@needs_browser
def test_page_is_legible_at_every_width_and_in_both_modes(page):
    async def act(browser: Chromium) -> None:
        await browser.run(OPEN_ALL)
        for width, scheme in itertools.product(WIDTHS, ("light", "dark")):
            print(f"{width=} {scheme=}")
            await _show(browser, width, scheme)
            assert await browser.run("document.documentElement.scrollWidth") <= width
            for found in (OVERFLOWING, SMALL_TEXTS, CUT_OFF, TOO_WIDE):
                assert await browser.run(found) == []
            paper = await browser.run(
                "getComputedStyle(document.querySelector('section')).backgroundColor"
            )
            assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
            drawn = await browser.run(
                "getComputedStyle(document.querySelector('.plot .main-svg')).background"
            )
            assert ("rgb(255, 255, 255)" in drawn) == (scheme == "light")

    asyncio.run(_look(page, act))


@needs_browser
@pytest.mark.slow
def test_first_page_of_several_settings_sorts_and_is_legible(tmp_path):
    store = Store(tmp_path / "results")
    fill(store)
    for method, epochs in itertools.product(("lsb", "fixed"), (7, 9)):
        finish(store, make_spec(method, 0.5, 0, epochs=epochs), depth_and_segmentation(0.1, 0.2))
    page = write_reports([store], tmp_path / "report")[""].path
    column = """[...document.querySelectorAll('#settings table')][0].tBodies[0].rows"""
    epochs = f"[...{column}].map((row) => parseInt(row.cells[0].textContent))"

    async def act(browser: Chromium) -> None:
        head = "document.querySelector('#settings thead button')"
        for order in (1, -1):
            await browser.run(f"{head}.click()")
            held = await browser.run(epochs)
            assert held == sorted([7, 7, 9, 9, 12, 12], reverse=order < 0)
        for width in WIDTHS:
            await _show(browser, width, "light")
            assert await browser.run("document.documentElement.scrollWidth") <= width
            for found in (OVERFLOWING, SMALL_TEXTS, CUT_OFF, TOO_WIDE):
                assert await browser.run(found) == []
        assert browser.complaints() == []
        assert browser.requests() == [page.absolute().as_uri()]

    asyncio.run(_look(page, act))


@needs_browser
def test_faults_of_a_page_are_found(tmp_path):
    """A page with an exception, a console error and a request shows each of them."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<body><div class='plot' style='width: 10px'><b class='main-svg'></b></div>"
        "<img src='http://127.0.0.1:1/x.png'><main><p style='width: 3000px'>wide</p></main>"
        "<script>console.error('logged'); throw new Error('thrown');</script></body>"
    )

    async def act(browser: Chromium) -> None:
        complaints = "".join(browser.complaints())
        assert "logged" in complaints
        assert "thrown" in complaints
        assert "http://127.0.0.1:1/x.png" in browser.requests()
        assert len(await browser.run(OVERFLOWING)) == 1

    asyncio.run(_look(page, act))
