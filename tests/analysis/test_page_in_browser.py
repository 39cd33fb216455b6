"""The page in a real browser: drawn without errors or requests, legible at every width and mode."""

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.report import write_reports
from tests.chromium import Chromium, find_chromium

WIDTHS = (1280, 390)
LEAST_FONT_PIXELS = 9.0

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
    && parseFloat(getComputedStyle(text).fontSize) < {LEAST_FONT_PIXELS})
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


@pytest.fixture
def page(full_store, tmp_path: Path) -> Path:
    return write_reports([full_store], tmp_path / "report")[""].path


@needs_browser
def test_page_is_drawn_without_errors_and_without_a_request(page):
    async def act(browser: Chromium) -> None:
        await browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        await browser.until(ALL_DRAWN)
        assert await browser.run("document.querySelectorAll('.plot .main-svg').length") > 0
        assert browser.complaints() == []
        assert browser.requests() == [page.absolute().as_uri()]

    asyncio.run(_look(page, act))


@needs_browser
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_legible(page, width, scheme):
    async def act(browser: Chromium) -> None:
        await browser.resize(width, 900)
        await browser.prefer(scheme)
        await browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        await browser.until("document.querySelector('.plot').clientWidth < window.innerWidth")
        await browser.until(ALL_DRAWN)
        await asyncio.sleep(0.5)  # the page draws anew a moment after it was resized
        assert await browser.run("document.documentElement.scrollWidth") <= width
        assert await browser.run(OVERFLOWING) == []
        assert await browser.run(SMALL_TEXTS) == []
        assert await browser.run(CUT_OFF) == []
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
def test_page_prints(page, tmp_path):
    async def act(browser: Chromium) -> None:
        answer = await browser._call("Page.printToPDF", preferCSSPageSize=True)
        data = base64.b64decode(answer["data"])
        assert data.startswith(b"%PDF")
        assert browser.complaints() == []

    asyncio.run(_look(page, act))


@needs_browser
def test_what_is_looked_for_would_be_seen(tmp_path):
    """A page with an exception, a console error and a request shows each of them."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<body><div class='plot' style='width: 10px'><b class='main-svg'></b></div>"
        "<img src='http://127.0.0.1:1/x.png'><main><p style='width: 3000px'>wide</p></main>"
        "<script>console.error('told'); throw new Error('thrown');</script></body>"
    )

    async def act(browser: Chromium) -> None:
        told = "".join(browser.complaints())
        assert "told" in told
        assert "thrown" in told
        assert "http://127.0.0.1:1/x.png" in browser.requests()
        assert len(await browser.run(OVERFLOWING)) == 1

    asyncio.run(_look(page, act))
