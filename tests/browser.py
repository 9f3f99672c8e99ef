"""A headless Chromium, driven over the DevTools protocol.

One WebSocket to the browser carries the commands and events of all tabs (flat sessions).
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.waiting import DEADLINE

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Tabs in the background run like the one in front.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--remote-debugging-port=0",
)
POLL = 0.03


class ProtocolError(AssertionError):
    """Raised when the browser refuses a command."""


class JavaScriptError(AssertionError):
    """Raised when an expression given to `Tab.evaluate` throws."""


def find_chromium() -> str | None:
    """Path of the browser; None when this machine has none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A running browser; `browser()` starts one."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tabs: dict[str, Tab] = {}
        self._reader = asyncio.create_task(self._read())

    async def open(self, url: str) -> "Tab":
        """A new tab that has loaded `url`."""
        target = await self.command("Target.createTarget", url="about:blank")
        attached = await self.command(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        tab = Tab(self, attached["sessionId"])
        self._tabs[tab.session] = tab
        for domain in ("Page", "Runtime", "Log"):
            await tab.command(f"{domain}.enable")
        await tab.command("Emulation.setFocusEmulationEnabled", enabled=True)
        await tab.goto(url)
        return tab

    async def command(
        self, method: str, *, session: str | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """Send a command of the DevTools protocol; its result."""
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        await self._socket.send(json.dumps(message))
        async with asyncio.timeout(DEADLINE):
            return await answer

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await self.command("Browser.close")
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            answer = self._answers.pop(message.get("id"), None)
            tab = self._tabs.get(message.get("sessionId", ""))
            if answer is None and tab is not None and "method" in message:
                tab.note(message["method"], message["params"])
            elif answer is None or answer.done():
                continue
            elif "error" in message:
                answer.set_exception(ProtocolError(message["error"]["message"]))
            else:
                answer.set_result(message["result"])


class Tab:
    """One page."""

    def __init__(self, owner: Browser, session: str) -> None:
        self._browser = owner
        self.session = session
        #: What the page has logged as an error, and exceptions that nothing caught.
        self.errors: list[str] = []

    async def goto(self, url: str) -> None:
        """Load a page and wait until it is complete."""
        answer = await self.command("Page.navigate", url=url)
        if "errorText" in answer:
            raise AssertionError(f"{url} cannot be loaded: {answer['errorText']}")
        await self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def evaluate(self, expression: str) -> Any:
        """The JSON value of an expression; a promise is awaited.

        Raises:
            JavaScriptError: when it throws.
        """
        answer = await self.command(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            raise JavaScriptError(f"{expression}: {_description(answer['exceptionDetails'])}")
        return answer["result"].get("value")

    async def wait_for(self, condition: str) -> None:
        """Wait until an expression is true.

        Raises:
            AssertionError: when it is not before the deadline; it shows the page's text.
        """
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    # While a page is being loaded there is nothing that could answer.
                    with contextlib.suppress(ProtocolError):
                        if await self.evaluate(f"Boolean({condition})"):
                            return
                    await asyncio.sleep(POLL)
        except TimeoutError:
            page = await self.evaluate("document.body.innerText")
            raise AssertionError(
                f"after {DEADLINE:g} seconds still waiting for {condition}; "
                f"errors: {self.errors}; the page says:\n{page}"
            ) from None

    async def texts(self, selector: str) -> list[str]:
        """The visible text of each element that matches."""
        found = await self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((each) => each.innerText)"
        )
        return list(found)

    async def type(self, selector: str, text: str) -> None:
        """Replace what a field holds, as typing does."""
        await self.evaluate(f"{_element(selector)}.focus(); {_element(selector)}.select()")
        await self.command("Input.insertText", text=text)

    async def press_enter(self) -> None:
        """Press Enter in the field that has the focus."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        await self.command("Input.dispatchKeyEvent", type="keyDown", text="\r", **key)
        await self.command("Input.dispatchKeyEvent", type="keyUp", **key)

    async def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse, once it can be clicked."""
        await self.wait_for(f"!{_element(selector)}.disabled")
        x, y = await self.evaluate(
            f"(({_element(selector)}).scrollIntoView({{block: 'center', behavior: 'instant'}}), "
            f"((box) => [box.x + box.width / 2, box.y + box.height / 2])"
            f"({_element(selector)}.getBoundingClientRect()))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.command(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    async def look(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Set the window's size and the colours that the page's reader prefers."""
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        preference = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.command("Emulation.setEmulatedMedia", features=[preference])

    async def screenshot(self) -> bytes:
        """The whole page as PNG."""
        answer = await self.command("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        return await self._browser.command(method, session=self.session, **parameters)

    def note(self, event: str, facts: dict[str, Any]) -> None:
        """Keep an event that tells of an error."""
        match event, facts:
            case "Runtime.exceptionThrown", {"exceptionDetails": details}:
                self.errors.append(_description(details))
            case "Runtime.consoleAPICalled", {"type": "error" | "assert", "args": arguments}:
                self.errors.append(" ".join(str(each.get("value", each)) for each in arguments))
            case "Log.entryAdded", {"entry": {"level": "error", "text": text, **entry}}:
                self.errors.append(f"{text} {entry.get('url', '')}".strip())


@contextlib.asynccontextmanager
async def browser(binary: str) -> AsyncIterator[Browser]:
    """A browser with a profile of its own, gone when the block ends."""
    with tempfile.TemporaryDirectory(
        prefix="queue-run-test-chromium-", ignore_cleanup_errors=True
    ) as profile:
        process = await asyncio.create_subprocess_exec(
            binary,
            *FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            address = await _debugging_address(Path(profile), process)
            # Screenshots come as one message of any size; a proxy has no business here.
            async with connect(
                address, max_size=None, proxy=None, open_timeout=DEADLINE, ping_interval=None
            ) as socket:
                running = Browser(socket)
                try:
                    yield running
                finally:
                    await running.close()
        finally:
            await _end(process)


async def _debugging_address(profile: Path, process: asyncio.subprocess.Process) -> str:
    """Where the browser takes commands: it writes port and path to a file of its profile."""
    file = profile / "DevToolsActivePort"
    async with asyncio.timeout(DEADLINE):
        while process.returncode is None:
            lines = file.read_text().split() if file.exists() else []
            if len(lines) == 2:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            await asyncio.sleep(POLL)
    raise AssertionError(f"the browser ended with code {process.returncode} at its start")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Wait for the browser's end, or bring it about; its children share its process group."""
    try:
        async with asyncio.timeout(DEADLINE / 3):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _element(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})"


def _description(details: dict[str, Any]) -> str:
    thrown = details.get("exception", {})
    return str(thrown.get("description") or thrown.get("value") or details.get("text"))
