"""A headless Chromium, where one is installed, spoken to over two pipes: no library is needed."""

import json
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
LONGEST = 120  # seconds
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --disable-extensions "
    "--remote-debugging-pipe"
).split()


class Browser:
    """One page; `events` has all that the browser told of it."""

    def __init__(self, commands, answers):
        self.commands = commands
        self.answers = answers
        self.unread = b""
        self.events = []
        self.count = 0
        self.session = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """What the browser answers; what it says meanwhile is noted down."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params, **self.session}
        self.commands.write(json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != self.count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def read(self):
        while b"\0" not in self.unread:
            found = self.answers.read1(1 << 20)
            if not found:
                raise OSError("the browser has ended")
            self.unread += found
        text, _, self.unread = self.unread.partition(b"\0")
        return json.loads(text)

    def open(self, url):
        loads = len(self.said("Page.loadEventFired"))
        self.call("Page.navigate", url=url)
        while len(self.said("Page.loadEventFired")) == loads:
            self.events.append(self.read())

    def run(self, script):
        """The value of some JavaScript."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key, code):
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    def said(self, method):
        return [event["params"] for event in self.events if event.get("method") == method]


@contextmanager
def browser(folder):
    """A Browser with an empty profile in the folder; None where there is none that starts."""
    if not PROGRAM:
        yield None
        return
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()

    def pipes():  # it reads from 3 and writes to 4
        os.dup2(to_browser, 103)
        os.dup2(from_browser, 104)
        os.dup2(103, 3)
        os.dup2(104, 4)

    process = subprocess.Popen(
        [PROGRAM, *QUIET, f"--user-data-dir={folder}"],
        preexec_fn=pipes,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    alarm = threading.Timer(LONGEST, process.kill)  # or one that says nothing is waited for
    alarm.start()
    try:
        with open(commands, "wb", buffering=0) as write, open(answers, "rb") as read:
            try:
                found = Browser(write, read)
            except OSError:
                found = None
            yield found
    finally:
        alarm.cancel()
        process.terminate()
        process.wait()
