"""A real Chromium, headless and cut off from the network, that says what a page did (DevTools protocol over a pipe)."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 60.0  # seconds that an answer may take on a busy machine
PHONE = 360


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """A browser for the tests of a session. Skips where there is no Chromium."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    home = tempfile.mkdtemp()
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    # it reads commands from 3 and writes answers to 4 (not by a shell: dash knows no descriptor over 9)
    line = (
        "import fcntl, os, sys\n"
        f"r, w = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in ({to_read}, {from_write}))  # out of the way of 3 and 4\n"
        "os.dup2(r, 3), os.dup2(w, 4)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", line, program, *FLAGS, f"--user-data-dir={home}", "about:blank"],
        pass_fds=(to_read, from_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    os.close(to_read)
    os.close(from_write)
    browser = Browser(to_write, from_read)
    try:
        yield browser
    finally:
        with contextlib.suppress(OSError):
            os.close(to_write)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        browser.reader.join(PATIENCE)
        os.close(from_read)
        shutil.rmtree(home, ignore_errors=True)


class Browser:
    """The whole browser; `open` gives a tab."""

    def __init__(self, write: int, read: int) -> None:
        self.write, self.numbers = write, itertools.count(1)
        self.answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.news = threading.Condition()
        self.reader = threading.Thread(target=self._listen, args=(read,), daemon=True)
        self.reader.start()

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        number = next(self.numbers)
        waiting = self.answers[number] = queue.Queue()
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self.write, data) :]
        answer = waiting.get(timeout=PATIENCE)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def open(
        self, page: str | Path, width: int = 1000, height: int = 900, dark: bool = False, phone: bool = False
    ) -> Tab:
        """A tab with a file or an address, loaded; `phone`: 360 pixels wide, with touch."""
        return Tab(self, page, PHONE if phone else width, 740 if phone else height, dark, phone)

    def _listen(self, read: int) -> None:
        rest = b""
        while part := os.read(read, 1 << 20):
            *messages, rest = (rest + part).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self.answers.pop(message["id"]).put(message)
                else:
                    with self.news:
                        self.events.setdefault(message.get("sessionId", ""), []).append(message)
                        self.news.notify_all()


class Tab:
    """A page as it was seen: `requests` it made beyond itself, `complaints` on its console, and `evaluate`."""

    def __init__(
        self, browser: Browser, page: str | Path, width: int, height: int, dark: bool, phone: bool
    ) -> None:
        self.browser = browser
        self.url = page if isinstance(page, str) and "://" in page else Path(page).resolve().as_uri()
        self.target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.ask("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.ask(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        self.ask("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url=self.url)
        with browser.news:
            assert browser.news.wait_for(lambda: self._seen("Page.loadEventFired"), PATIENCE), (
                f"{self.url} never loaded"
            )
        self.evaluate("Promise.all([...document.images].map(i => i.decode().catch(() => 0))).then(() => 0)")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.ask(method, self.session, **parameters)

    def _seen(self, method: str) -> list[dict[str, Any]]:
        return [e["params"] for e in self.browser.events.get(self.session, []) if e["method"] == method]

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for beyond the page itself; what is in the page is no request."""
        asked = [event["request"]["url"] for event in self._seen("Network.requestWillBeSent")]
        return [url for url in asked if url != self.url and not url.startswith(("data:", "about:blank"))]

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings: of the console, uncaught, or of the browser itself."""
        found = [
            " ".join(str(a.get("value", a.get("description"))) for a in event["args"])
            for event in self._seen("Runtime.consoleAPICalled")
            if event["type"] in ("error", "warning", "assert")
        ]
        found += [event["exceptionDetails"]["text"] for event in self._seen("Runtime.exceptionThrown")]
        return found + [
            e["entry"]["text"] for e in self._seen("Log.entryAdded") if e["entry"]["level"] != "verbose"
        ]

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def point_at(self, selector: str, x: float = 0.5, y: float = 0.5, tap: bool = False) -> None:
        """Move the mouse to (or tap) a place inside an element, as fractions of its box."""
        box = self.evaluate(
            f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}}); const b = e.getBoundingClientRect(); "
            f"return [b.x, b.y, b.width, b.height] }})(document.querySelector({json.dumps(selector)}))"
        )
        at = {"x": box[0] + x * box[2], "y": box[1] + y * box[3]}
        if tap:
            self.ask("Input.dispatchTouchEvent", type="touchStart", touchPoints=[at])
            self.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        else:
            self.ask("Input.dispatchMouseEvent", type="mouseMoved", **at)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, path: str | Path, whole: bool = True) -> None:
        """A PNG of the whole page, for a person to look at."""
        data = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def pdf(self, path: str | Path | None = None) -> bytes:
        """The page as it prints."""
        data = base64.b64decode(self.ask("Page.printToPDF", preferCSSPageSize=True)["data"])
        if path is not None:
            Path(path).write_bytes(data)
        return data

    def close(self) -> None:
        self.browser.ask("Target.closeTarget", targetId=self.target)


def assert_healthy(tab: Tab) -> None:
    """No complaint, no request, every picture there, and nothing wider than the window."""
    assert tab.complaints == [], tab.complaints
    assert tab.requests == [], tab.requests
    broken = tab.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)")
    assert broken == [], f"pictures that did not load: {broken}"
    nameless = tab.evaluate("[...document.images].filter(i => !i.alt).length")
    assert nameless == 0, f"{nameless} pictures without words for those who cannot see them"
    width, room = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= room, f"the page is {width} pixels wide in a window of {room}"
