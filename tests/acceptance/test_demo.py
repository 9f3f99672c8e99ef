"""The demo page in a real browser: several tabs, several users, real processes behind them."""

import os
import signal
from collections.abc import AsyncIterator

import pytest

from tests.browser import Browser, Tab, browser, find_chromium
from tests.conftest import NewStack
from tests.parts import require
from tests.processes import ROOT, PushServerProcess, RedisServer, Stack

CONNECTED = "document.querySelector('#state').dataset.state === 'open'"

#: Keep every text that the list of reports shows, however short its time.
NOTE_WHAT_JOBS_SHOW = """
    window.shown = [];
    new MutationObserver(() => {
      const text = document.querySelector("#jobs .note").textContent;
      if (text !== window.shown.at(-1)) window.shown.push(text);
    }).observe(document.querySelector("#jobs"), {subtree: true, childList: true});
"""


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    binary = find_chromium()
    require(binary, "Chromium")
    async with browser(binary or "") as running:
        yield running


async def open_page(chromium: Browser, stack: Stack, user: str) -> Tab:
    tab = await chromium.open(f"{stack.url}/?user={user}")
    await tab.wait_for(CONNECTED)
    return tab


async def submit(tab: Tab, **fields: str) -> None:
    """Fill the fields of a form, each named `panel__field`, and press Enter in the last."""
    for name, text in fields.items():
        panel, _, field = name.partition("__")
        await tab.type(f"#{panel} [name={field}]", text)
    await tab.press_enter()


def shows(selector: str, text: str) -> str:
    """The condition that an element's text holds this one."""
    return f"document.querySelector('{selector}')?.innerText.includes('{text}')"


async def test_a_handler_answers_what_is_said(chromium: Browser, demo_stack: Stack) -> None:
    tab = await open_page(chromium, demo_stack, "echo-ann")
    await submit(tab, echo__text="good morning")
    await tab.wait_for(shows("#echoes", '{"echo":"good morning"}'))
    await submit(tab, echo__text='{"numbers": [1, 2]}')
    await tab.wait_for(shows("#echoes", '{"echo":{"numbers":[1,2]}}'))
    assert tab.errors == []


async def test_a_profile_change_shows_in_every_tab_of_its_user(
    chromium: Browser, demo_stack: Stack
) -> None:
    first = await open_page(chromium, demo_stack, "devices-ann")
    second = await open_page(chromium, demo_stack, "devices-ann")
    other = await open_page(chromium, demo_stack, "devices-bob")
    await submit(first, devices__name="Ann of the <b>Hills</b>")
    for tab in (first, second):
        await tab.wait_for(shows("#card-name", "Ann of the <b>Hills</b>"))
        await tab.wait_for(shows("#card-note", "Saved at"))
    # A tab that is opened later reads what was saved.
    later = await open_page(chromium, demo_stack, "devices-ann")
    await later.wait_for(shows("#card-name", "Ann of the"))
    # What the first tab saved is through, so the other user would have heard of it by now.
    await submit(other, echo__text="still here")
    await other.wait_for(shows("#echoes", "still here"))
    assert await other.texts("#card-name") == ["devices-bob"]
    assert [tab.errors for tab in (first, second, later, other)] == [[], [], [], []]


async def test_a_chat_message_reaches_each_tab_of_each_member_once(
    chromium: Browser, demo_stack: Stack
) -> None:
    tabs = [
        await open_page(chromium, demo_stack, user) for user in ("chat-ann", "chat-ann", "chat-bob")
    ]
    for tab in tabs:
        await submit(tab, join__room="kitchen")
        await tab.wait_for(shows("#members", "You are in kitchen"))
    await tabs[0].wait_for(shows("#members", "with chat-bob"))
    await submit(tabs[0], say__text="tea is ready")
    await tabs[2].wait_for(shows("#messages", "tea is ready"))
    await submit(tabs[2], say__text="coming")
    for tab in tabs:
        await tab.wait_for(shows("#messages", "coming"))
        assert await tab.texts("#messages li") == ["chat-ann\ntea is ready", "chat-bob\ncoming"]
        assert tab.errors == []


async def test_a_mistake_is_answered_with_what_is_wrong(
    chromium: Browser, demo_stack: Stack
) -> None:
    tab = await open_page(chromium, demo_stack, "reports-eve")
    # The page itself would not send this.
    await tab.evaluate("document.querySelector('#reports [name=pages]').removeAttribute('max')")
    await submit(tab, reports__pages="1000")
    await tab.wait_for(shows("#reports .error", "1 to 100 pages"))
    await submit(tab, reports__pages="1")
    await tab.wait_for(shows("#jobs", "Your 1 pages are ready."))
    assert await tab.texts("#reports .error") == [""]
    assert tab.errors == []


async def test_a_job_shows_its_progress_in_every_tab_of_its_user(
    chromium: Browser, demo_stack: Stack
) -> None:
    first = await open_page(chromium, demo_stack, "reports-ann")
    second = await open_page(chromium, demo_stack, "reports-ann")
    other = await open_page(chromium, demo_stack, "reports-bob")
    for tab in (first, second):
        await tab.evaluate(NOTE_WHAT_JOBS_SHOW)
    await submit(first, reports__pages="4")
    for tab in (first, second):
        await tab.wait_for("document.querySelector('#jobs li')?.dataset.state === 'finished'")
        assert await tab.texts("#jobs .note") == ["Your 4 pages are ready."]
        assert await tab.evaluate("document.querySelector('#jobs progress').position") == 1
        assert len(await tab.texts("#jobs li")) == 1
        shown = await tab.evaluate("window.shown")
        assert [text for text in shown if text.startswith("page")] == [
            f"page {page} of 4" for page in (1, 2, 3, 4)
        ]
    assert await other.texts("#jobs li") == []
    assert [tab.errors for tab in (first, second, other)] == [[], [], []]


async def test_a_report_whose_worker_is_killed_ends_in_finished_and_shows_no_step_twice(
    chromium: Browser, redis_server: RedisServer, new_stack: NewStack
) -> None:
    stack = new_stack(
        redis_server,
        ROOT,
        QUEUE_RUN_PUBLIC_DIR=str(ROOT / "public"),
        # Jobs of a worker that is gone come back after this: the demo's longest may take 120 s.
        QUEUE_RUN_VISIBILITY_TIMEOUT="121",
    )
    stack.push_server()
    stack.worker("-P", "solo", queues="sockets")
    jobs = stack.worker("-P", "prefork", "-c", "2", queues="jobs")
    stack.wait_until_ready()
    tab = await open_page(chromium, stack, "killed-ann")
    await tab.evaluate(NOTE_WHAT_JOBS_SHOW)
    await submit(tab, reports__pages="12")
    await tab.wait_for(shows("#jobs", "page 4 of 12"))
    for child in jobs.children:
        os.kill(child, signal.SIGKILL)
    await tab.wait_for("document.querySelector('#jobs li').dataset.state === 'finished'")
    shown = await tab.evaluate("window.shown")
    assert [text for text in shown if text.startswith("page")] == [
        f"page {page} of 12" for page in range(1, 13)
    ]
    assert await tab.texts("#jobs .note") == ["Your 12 pages are ready."]
    assert jobs.output.count(" started, attempt 2") == 1
    assert tab.errors == []


async def test_a_report_can_be_cancelled(chromium: Browser, demo_stack: Stack) -> None:
    tab = await open_page(chromium, demo_stack, "cancel-ann")
    await submit(tab, reports__pages="100")
    await tab.wait_for(shows("#jobs", "page 2 of 100"))
    await tab.evaluate("document.querySelector('#jobs button').click()")
    await tab.wait_for("document.querySelector('#jobs li').dataset.state === 'cancelled'")
    assert await tab.texts("#jobs .note") == ["cancelled"]
    assert await tab.texts("#jobs button") == []
    assert tab.errors == []


async def test_a_restarted_push_server_needs_no_reload(
    chromium: Browser, demo_stack: Stack
) -> None:
    tab = await open_page(chromium, demo_stack, "restart-ann")
    await tab.evaluate("window.sameDocument = true")
    first = demo_stack.push_servers[0]
    first.send(signal.SIGTERM)
    first.wait()
    await tab.wait_for("document.querySelector('#state').dataset.state === 'closed'")
    second = PushServerProcess(demo_stack.environ(PORT=first.url.rpartition(":")[2]))
    demo_stack.push_servers.append(second)
    second.wait_until_ready()
    await tab.wait_for(CONNECTED)
    await submit(tab, echo__text="back again")
    await tab.wait_for(shows("#echoes", "back again"))
    assert await tab.evaluate("window.sameDocument")
