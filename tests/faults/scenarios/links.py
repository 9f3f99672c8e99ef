"""Links that fall silent without an end, while new ones work: what a vanished host looks like."""

import asyncio

from tests.faults.checker import RequestVerdict, judge_requests
from tests.faults.load import Askers, asking
from tests.faults.proxy import Proxy
from tests.faults.report import Row
from tests.faults.scenarios.pushes import run
from tests.faults.scenarios.size import Size
from tests.faults.stage import Stage, now, stage, within
from tests.rabbitmq import RabbitMQ

#: Seconds within which requests are answered again.
BACK_WITHIN = 15.0


async def silent_redis(size: Size) -> Row:
    """All links to Redis, those of the broker and those of the channel."""
    async with (
        stage(workers=2, proxied_redis=True) as on,
        run(size, on=on) as lab,
        asking(size.askers, on.urls, rate=1, takes=size.takes) as askers,
    ):
        worst = await _break_again_and_again(size, on.redis_links, askers)
        await askers.stop()
        alive = on.alive()
        requests = judge_requests(askers.requests, on.runs())
        verdict = await lab.settle()
        return Row(
            fault=f"all links to Redis fall silent {size.silences} times, and new ones work",
            load=size.mild_load,
            shown=f"{verdict}; {lab.pusher.failed} sends raised; {_told(requests, worst, alive)}",
            passed=verdict.clean
            and verdict.gaps == 0
            and requests.clean
            and alive
            and worst <= BACK_WITHIN,
        )


async def silent_rabbitmq(size: Size) -> Row:
    """All links to RabbitMQ, which takes them for alive for some seconds."""
    broker = await asyncio.to_thread(RabbitMQ)
    try:
        async with Proxy(broker.port) as proxy:
            url = f"amqp://guest:guest@127.0.0.1:{proxy.port}//"
            async with (
                stage(workers=2, settings={"BROKER_URL": url}) as on,
                asking(size.askers, on.urls, rate=1, takes=size.takes) as askers,
            ):
                return await _silent_rabbitmq(size, on, proxy, askers)
    finally:
        await asyncio.to_thread(broker.end)


async def _silent_rabbitmq(size: Size, on: Stage, proxy: Proxy, askers: Askers) -> Row:
    worst = await _break_again_and_again(size, proxy, askers)
    await askers.stop()
    alive = on.alive()
    requests = judge_requests(askers.requests, on.runs())
    return Row(
        fault=f"all links to RabbitMQ fall silent {size.silences} times, and new ones work",
        load=f"{size.askers} clients, each asking 1/s",
        shown=_told(requests, worst, alive),
        # What RabbitMQ sent over a dead link comes to another worker before its deadline.
        passed=requests.clean
        and requests.ends["reply"] == requests.asked
        and alive
        and worst <= BACK_WITHIN,
    )


async def _break_again_and_again(size: Size, links: Proxy, askers: Askers) -> float:
    """Let all links fall silent; how long it took at most until a later request was answered."""
    worst = 0.0
    for _ in range(size.silences):
        await asyncio.sleep(size.pause)
        links.half_open()
        began, asked = now(), len(askers.requests.outcomes)

        def answered(before: int = asked) -> bool:
            later = list(askers.requests.outcomes.values())[before:]
            return any("reply" in each for each in later)

        await within(answered, "requests to be answered again")
        worst = max(worst, now() - began)
    return worst


def _told(requests: RequestVerdict, worst: float, alive: bool) -> str:
    return (
        f"{requests}; requests are answered again after at most {worst:.1f} s; all processes "
        f"alive: {'yes' if alive else 'no'}"
    )
