"""Chromium without a window, driven through a pipe by the DevTools protocol: what the tests of the page need of it, with
no package but Python's own."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """One browser with one page. `errors` collects what a page throws or logs as an error, `requests` what it asks for."""

    def __init__(self):
        program = next((path for path in map(shutil.which, NAMES) if path), None)
        # No test is left out for want of it: nothing else would show that the page works.
        assert program, f"the report page is tested in chromium, which is not here: install one of {', '.join(NAMES)}"
        self.folder = tempfile.mkdtemp(prefix="seigh-browser-")
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
                   "--force-device-scale-factor=1", f"--user-data-dir={self.folder}", "--remote-debugging-pipe", "about:blank"]
        # The protocol is spoken on descriptors 3 and 4.
        self.process = subprocess.Popen(["bash", "-c", f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}', program, *options],
                                        pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.input, self.output, self.buffer, self.number = ours_in, ours_out, b"", 0
        self.session, self.errors, self.requests, self.loaded = None, [], [], set()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        self.downloads = Path(self.folder) / "downloads"
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.input)
        os.close(self.output)
        shutil.rmtree(self.folder, ignore_errors=True)

    def receive(self, timeout=120):
        deadline = time.monotonic() + timeout
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.input], [], [], max(0, deadline - time.monotonic()))
            assert ready, "chromium does not answer"
            piece = os.read(self.input, 1 << 20)
            assert piece, "chromium has ended"
            self.buffer += piece
        message, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(message)
        method, what = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(what["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif method == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
            self.errors.append("; ".join(str(a.get("description", a.get("value")))[:400] for a in what["args"]))
        elif method == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
            self.errors.append(what["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        elif method == "Page.lifecycleEvent" and what["name"] == "load":
            self.loaded.add(what["loaderId"])
        return message

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.output, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def evaluate(self, expression):
        """The value of JavaScript in the page; a promise is waited for."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def open(self, path, address="", width=1400, height=900, dark=False):
        """Opens a file at #address, in a window of this size, and waits until it is loaded and laid out."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        # By way of an empty page: an address that differs after its # only would load nothing.
        self.load("about:blank")
        self.errors.clear()
        self.requests.clear()
        self.load(f"file://{path}{'#' + address if address else ''}")
        self.settle()

    def load(self, url):
        """Waits for the load event of this very document: that of the one before may still be under way."""
        loader = self.call("Page.navigate", url=url)["loaderId"]
        while loader not in self.loaded:
            self.receive()

    def settle(self):
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def screenshot(self, path):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]))

    def downloaded(self, act, timeout=60):
        """The content of the file that JavaScript `act` saves."""
        for old in self.downloads.glob("*"):
            old.unlink()
        self.evaluate(act)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            fresh = [p for p in self.downloads.glob("*") if p.suffix != ".crdownload"]
            if fresh and fresh[0].stat().st_size:
                return fresh[0].name, fresh[0].read_bytes()
            time.sleep(0.05)
        raise AssertionError("nothing was saved")
