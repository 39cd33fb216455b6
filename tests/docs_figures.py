"""The pictures of the documentation, made again from real stores.

    python -m tests.docs_figures STORE/sweeps/NAME [CAMVID/sweeps/NAME]

The first is the finished default job (`python sweeps/priority_grid.py`), the second the sweep on
photographs of docs/findings.md. Scenes are rendered; pictures of pages need Chromium. Ray's
dashboard is that of a sweep which is started for it, and stopped.
"""

import argparse
import asyncio
import io
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from analysis.load.plans import stores_among
from analysis.reports import write_reports
from mtl.data.show import main as show_scenes
from sweeps.serve import LivePage, Server, serve
from tests.chromium import Chromium

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
COLOURS = 256
SCENES = {
    "scenes_rooms.png": ("--scenes", "rooms", "--count", "24"),
    "scenes_simple.png": ("--scenes", "simple", "--count", "12"),
}
PAGE_PIXELS = (1084, 900)
LIVE_BOX = (0, 0, 1050, 1000)
"""Of the live page: left, top, right and bottom, in pixels."""
DASHBOARD_PIXELS = (1700, 640)
DASHBOARD_PAGES = {
    "dashboard_jobs.png": ("jobs", "RUNNING"),
    "dashboard_actors.png": ("actors", "lsb"),
}


def save(name: str, picture: Image.Image) -> None:
    """Write a picture with a palette, as small as it can be."""
    picture.convert("RGB").quantize(COLOURS).save(DOCS / name, optimize=True)
    print(DOCS / name, picture.size)


def report_of(place: str, folder: Path) -> Path:
    """Write the report on a sweep with its figures; return where it lies."""
    stores, asked = stores_among([place])
    return write_reports(stores, folder, asked, static=True)[""].path.parent


def figure(report: Path, tasks: str, name: str) -> None:
    """Take the operating points of a report."""
    save(name, Image.open(report / "figures" / f"operating_points_{tasks}.png"))


async def element(browser: Chromium, selector: str) -> Image.Image:
    """Return a picture of an element of the page."""
    await browser.run(f"document.querySelector('{selector}').scrollIntoView()")
    await asyncio.sleep(1.0)
    box = await browser.run(
        f"(() => {{ const b = document.querySelector('{selector}').getBoundingClientRect();"
        "return [b.left + scrollX, b.top + scrollY, b.width, b.height]; })()"
    )
    return Image.open(io.BytesIO(await browser.picture(box)))


async def pages(report: Path, place: str) -> None:
    """Take the pictures of the report's page and of the live one."""
    async with Chromium(PAGE_PIXELS) as browser:
        await browser.go((report / "report.html").absolute().as_uri())
        await browser.until("document.querySelector('#points .main-svg') !== null")
        save("report_choose.png", await element(browser, "#picker-box"))
        await browser.run("document.getElementById('trends').open = true")
        await browser.until("document.querySelector('#trends .main-svg') !== null")
        save("report_trends.png", await element(browser, "#figure-trends_loss_scales"))
        (store,), _ = stores_among([place])
        said: asyncio.Queue[str] = asyncio.Queue()
        page = Server(LivePage(store, place.rstrip("/").rpartition("/")[2]))
        task = asyncio.create_task(serve(page, "127.0.0.1", 0, said.put_nowait))
        await browser.go((await said.get()).partition(": ")[2])
        await browser.until("document.querySelector('#points .main-svg') !== null")
        save("live_page.png", (await element(browser, "main")).crop(LIVE_BOX))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def visible(browser: Chromium, name: str) -> None:
    """Take what is visible, once it has been drawn."""
    await asyncio.sleep(3.0)
    save(name, Image.open(io.BytesIO(await browser.picture())))


async def dashboard_pages(address: str, token: str) -> None:
    """Take the pages of Ray's dashboard, before its token is typed and after."""
    async with Chromium(DASHBOARD_PIXELS) as browser:
        await browser.go(f"{address}/#/jobs")
        await browser.text_with("Authentication Token Required")
        await visible(browser, "dashboard_token.png")
        await browser.open_dashboard(address, token)
        for name, (page, word) in DASHBOARD_PAGES.items():
            await browser.go(f"{address}/#/{page}")
            await browser.text_with(word)
            await visible(browser, name)


def dashboard(store: Path) -> None:
    """Take the pages of Ray's dashboard while a sweep trains."""
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("RAY_AUTH_MODE", None)
    argv = ("python", "sweeps/priority_grid.py", "--name", "my-sweep", "--dashboard")
    with subprocess.Popen(
        [*argv, "--store", str(store)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if line.startswith("Ray's dashboard:"))
            asked = [programs / "ray", "get-auth-token"]
            told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
            asyncio.run(dashboard_pages(line.split()[2].rstrip(";"), told.split()[-1]))
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("default_job")
    parser.add_argument("photographs", nargs="?")
    given = parser.parse_args()
    for name, arguments in SCENES.items():
        show_scenes([*arguments, "--blocks", "1", "--out", str(DOCS / name)])
    with tempfile.TemporaryDirectory() as folder:
        report = report_of(given.default_job, Path(folder, "default"))
        figure(report, "depth_segmentation", "operating_points.png")
        asyncio.run(pages(report, given.default_job))
        dashboard(Path(folder, "watched"))
        if given.photographs:
            photographs = report_of(given.photographs, Path(folder, "photographs"))
            figure(photographs, "segmentation_edge2d", "findings_points.png")


if __name__ == "__main__":
    main()
