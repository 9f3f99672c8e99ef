"""How late the event loop is."""

import asyncio
import time

from push_server.transport.lag import BUSY_INTERVAL, IDLE_INTERVAL, WINDOW, Lag, LagMonitor
from tests.waiting import eventually_async


def test_before_the_first_timer_there_is_nothing_to_tell() -> None:
    assert LagMonitor().lag() == Lag(p50=0.0, p99=0.0, max=0.0, samples=0)


def test_the_lateness_of_timers_is_told_in_milliseconds() -> None:
    monitor = LagMonitor()
    for number in range(1, 101):
        monitor.note(1.0, number / 1000)
    assert monitor.lag() == Lag(p50=50.0, p99=100.0, max=100.0, samples=100)


def test_a_timer_that_is_early_by_the_clocks_grain_is_not_late() -> None:
    monitor = LagMonitor()
    monitor.note(1.0, -0.0001)
    assert monitor.lag().max == 0.0


def test_what_is_long_ago_is_forgotten() -> None:
    monitor = LagMonitor()
    monitor.note(1.0, 5)
    monitor.note(1.5 + WINDOW, 0.001)
    assert monitor.lag() == Lag(p50=1.0, p99=1.0, max=1.0, samples=1)


def test_samples_become_rare_while_there_is_nothing_to_do() -> None:
    monitor = LagMonitor()
    idle = [monitor.next_interval(1.0, 0.01) for _ in range(8)]
    assert idle == sorted(idle)
    assert idle[-1] == IDLE_INTERVAL
    assert monitor.next_interval(1.0, 0.5) == BUSY_INTERVAL


async def test_a_callback_that_blocks_the_loop_is_seen() -> None:
    monitor = LagMonitor()
    monitor.start()
    await eventually_async(lambda: monitor.lag().samples > 0, what="a sample")
    # A callback that does not let the loop go on, for as long as timers are apart.
    time.sleep(IDLE_INTERVAL + 0.2)  # noqa: ASYNC251
    await eventually_async(lambda: monitor.lag().max >= 100, what="the lag")
    monitor.stop()
    seen = monitor.lag().samples
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(3 * BUSY_INTERVAL, later.set)
    await later.wait()
    assert monitor.lag().samples == seen
