"""A headless Chromium, driven by its own protocol: go to a page, type, read what it shows."""

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-port=0",
)  # fmt: skip


def find_chromium() -> str | None:
    """Return the program, or None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Chromium:
    """An open browser with one page; an asynchronous context manager."""

    def __init__(self, size: tuple[int, int] = (1700, 640), wait_seconds: float = 90.0) -> None:
        self._size, self._wait_seconds = size, wait_seconds
        self._number = 0
        self.events: list[dict[str, Any]] = []
        """What the browser told by itself: requests, exceptions and the console's entries."""

    async def __aenter__(self) -> Self:
        """Start the browser and attach to its page."""
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        program = find_chromium()
        assert program is not None
        self._process = subprocess.Popen(
            [
                program, *FLAGS, f"--window-size={self._size[0]},{self._size[1]}",
                f"--user-data-dir={self._folder.name}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        told = Path(self._folder.name, "DevToolsActivePort")
        end = time.monotonic() + self._wait_seconds
        while not (told.exists() and told.read_text().count("\n")):
            assert time.monotonic() < end, "Chromium did not start"
            time.sleep(0.1)
        self._session = aiohttp.ClientSession()
        port = told.read_text().splitlines()[0]
        async with self._session.get(f"http://127.0.0.1:{port}/json") as answer:
            pages = [tab for tab in await answer.json() if tab["type"] == "page"]
        address = pages[0]["webSocketDebuggerUrl"]
        self._socket = await self._session.ws_connect(address, max_msg_size=0)
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self._call(f"{domain}.enable")
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the browser."""
        await self._session.close()
        self._process.terminate()
        self._process.wait(30)
        self._folder.cleanup()

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = json.loads((await self._socket.receive()).data)
            if "method" in answer:
                self.events.append(answer)
            if answer.get("id") == number:
                return answer.get("result", {})  # none between two pages: there is nothing to ask

    async def go(self, address: str) -> None:
        """Go to a page."""
        await self._call("Page.navigate", url=address)

    async def run(self, script: str) -> Any:
        """Return what an expression of JavaScript gives."""
        answer = await self._call("Runtime.evaluate", expression=script, returnByValue=True)
        return answer.get("result", {}).get("value")

    async def text_with(self, *words: str) -> str:
        """Wait until the page shows all `words`; return its text."""
        end = time.monotonic() + self._wait_seconds
        while True:
            text = await self.run("document.body ? document.body.innerText : ''") or ""
            if all(word in text for word in words):
                return text
            assert time.monotonic() < end, f"{words} not in: {text}"
            await asyncio.sleep(0.2)

    async def resize(self, width: int, height: int) -> None:
        """Show the page at this size in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self._call("Emulation.setDeviceMetricsOverride", **size)

    async def prefer(self, scheme: str) -> None:
        """Make the reader's system `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self._call("Emulation.setEmulatedMedia", features=[feature])

    async def until(self, script: str) -> Any:
        """Wait until an expression of JavaScript is true; return what it gives."""
        end = time.monotonic() + self._wait_seconds
        while not (value := await self.run(script)):
            assert time.monotonic() < end, f"never true: {script}"
            await asyncio.sleep(0.1)
        return value

    def complaints(self) -> list[str]:
        """Return exceptions and console errors so far."""
        found = [e for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        found += [
            e
            for e in self.events
            if e["method"] == "Log.entryAdded" and e["params"]["entry"]["level"] == "error"
        ]
        found += [
            e
            for e in self.events
            if e["method"] == "Runtime.consoleAPICalled" and e["params"]["type"] == "error"
        ]
        return [json.dumps(event["params"]) for event in found]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for so far; those of data in the page are none."""
        asked = [e for e in self.events if e["method"] == "Network.requestWillBeSent"]
        addresses = [event["params"]["request"]["url"] for event in asked]
        return [address for address in addresses if not address.startswith("data:")]

    async def type(self, text: str) -> None:
        """Type into the element that has the focus."""
        await self._call("Input.insertText", text=text)

    async def press(self, key: str, code: int) -> None:
        """Press and release a key that writes nothing, such as ArrowRight with code 39."""
        told = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self._call("Input.dispatchKeyEvent", type="rawKeyDown", **told)
        await self._call("Input.dispatchKeyEvent", type="keyUp", **told)

    async def picture(self, box: Sequence[float] | None = None) -> bytes:
        """Return a PNG of what is visible, or of a box: left, top, width, height in pixels."""
        asked: dict[str, Any] = {"format": "png"}
        if box is not None:
            clip = dict(zip(("x", "y", "width", "height"), box, strict=True)) | {"scale": 1}
            asked |= {"clip": clip, "captureBeyondViewport": True}
        return base64.b64decode((await self._call("Page.captureScreenshot", **asked))["data"])

    async def open_dashboard(self, address: str, token: str) -> str:
        """Type the token of Ray's dashboard as a person would; return what was shown before."""
        await self.go(f"{address}/#/jobs")
        shown = await self.text_with("Authentication Token Required")
        await self.run("document.querySelector('[role=dialog] input').focus()")
        await self.type(token)
        await self.run("[...document.querySelectorAll('[role=dialog] button')].at(-1).click()")
        return shown
