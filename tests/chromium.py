"""Drive a headless Chromium over its DevTools protocol, as a reader would use the page."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (Debian: chromium)"
)
START_LIMIT_S = 60.0
WAIT_LIMIT_S = 60.0
KEY_CODES = {"Enter": 13, "Escape": 27, "Backspace": 8, "ArrowLeft": 37, "ArrowUp": 38,
             "ArrowRight": 39, "ArrowDown": 40}  # fmt: skip
BUTTONS = {"none": 0, "left": 1, "right": 2, "middle": 4}


class Page:
    """One page of the browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come meanwhile are kept."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=WAIT_LIMIT_S))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])
            self._keep(message)

    def _keep(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(
                params["exceptionDetails"].get("exception", {}).get("description", "?")
            )
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; promises are awaited."""
        found = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + WAIT_LIMIT_S
        while not self.evaluate(condition):
            assert time.monotonic() < deadline, f"never true: {condition}; {self.errors}"
            time.sleep(0.02)

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def set_size(self, width: int, height: int, *, touch: bool = False) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=touch,
        )  # fmt: skip
        self.send("Emulation.setTouchEmulationEnabled", enabled=touch)

    def press(self, key: str) -> None:
        """Press and release a key, by its name or its character."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key,
                      windowsVirtualKeyCode=KEY_CODES.get(key, 0),
                      **(text if kind == "keyDown" else {}))  # fmt: skip

    def drag(self, points: list[tuple[float, float]], button: str = "left") -> None:
        """Press a mouse button at the first point, move along the others, release it."""
        steps = [("mousePressed", points[0]), *(("mouseMoved", at) for at in points[1:]),
                 ("mouseReleased", points[-1])]  # fmt: skip
        for kind, (x, y) in steps:
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button,
                      buttons=BUTTONS[button], clickCount=1)  # fmt: skip

    def touch(self, *frames: list[tuple[float, float]]) -> None:
        """Touch with as many fingers as a frame has points, move through the frames, let go."""
        for number, frame in enumerate(frames):
            self.send(
                "Input.dispatchTouchEvent", type="touchMove" if number else "touchStart",
                touchPoints=[{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(frame)],
            )  # fmt: skip
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def middle_of(self, selector: str) -> tuple[float, float]:
        box = self.evaluate(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        return float(box[0]), float(box[1])

    def click(self, selector: str) -> None:
        self.drag([self.middle_of(selector)])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))


@contextmanager
def open_chromium(profile: Path) -> Iterator[Page]:
    """Start a headless Chromium with a profile folder of its own; end it afterwards."""
    assert CHROMIUM is not None
    child = subprocess.Popen(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions",
            "--disable-component-update", "--no-proxy-server", "--hide-scrollbars",
            "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "HOME": str(profile)},
    )  # fmt: skip
    try:
        port_file = profile / "DevToolsActivePort"
        deadline = time.monotonic() + START_LIMIT_S
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert child.poll() is None and time.monotonic() < deadline, "chromium did not start"
            time.sleep(0.05)
        port = port_file.read_text().split()[0]
        with httpx.Client(trust_env=False) as client:
            targets = client.get(f"http://127.0.0.1:{port}/json/list").json()
        (target,) = [each for each in targets if each["type"] == "page"]
        with connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None) as connection:
            yield Page(connection)
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
