"""A listing of what an application offers, as text for people."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

from worker.application.middleware import Hook, Hooks
from worker.application.routes import JobHandler, Route, Routes


def listing(routes: Routes, *, now: datetime | None = None) -> str:
    """The routes with their middleware, and the queues with their schedules, as tables.

    Args:
        now: the time from which next runs are counted, with its timezone; None takes the clock's.
    """
    parts = [_table(_ROUTE_HEADINGS, (_route_row(route) for route in routes.sockets))]
    if not routes.sockets:
        parts = ["no routes: messages are answered with an error, connections only receive"]
    authenticate = _where(routes.authenticate) if routes.authenticate else "everybody is let in"
    parts.append(f"on_authenticate: {authenticate}")
    parts += [
        f"{name}: {hook.file}"
        for name, hook in (("on_online", routes.online), ("on_offline", routes.offline))
        if hook is not None
    ]
    if routes.queues:
        parts.append(_queues(routes.queues.values(), now or datetime.now(UTC)))
    return "\n\n".join(parts)


_ROUTE_HEADINGS = ("path", "file", "takes", "timeout", "order", "received", "sent", "error")


def _route_row(route: Route) -> tuple[str, ...]:
    return (
        f"{route.pattern} …" if route.fallback else route.pattern,
        route.file,
        "anything" if route.type == "auto" else route.type,
        f"{route.timeout:g} s",
        "kept" if route.ordered else "none",
        *_hook_cells(route.hooks),
    )


def _hook_cells(hooks: Hooks) -> tuple[str, ...]:
    return tuple(_where(hook) for hook in (hooks.received, hooks.sent, hooks.error))


_QUEUE_HEADINGS: tuple[str, ...] = ("queue", "file", "timeout", "retries", "order")
#: Who may push by HTTP.
_HTTP_HEADINGS = ("http",)
# Both in UTC: side by side, two timezones would contradict each other.
_SCHEDULE_HEADINGS = ("schedule (UTC)", "next run (UTC)")


def _queues(jobs: Collection[JobHandler], now: datetime) -> str:
    """The table of the queues, without columns that no queue fills."""
    headings = _QUEUE_HEADINGS
    rows = [_queue_row(job) for job in jobs]
    if any(job.http for job in jobs):
        headings += _HTTP_HEADINGS
        rows = [(*row, _http_cell(job)) for row, job in zip(rows, jobs, strict=True)]
    if any(job.schedule for job in jobs):
        headings += _SCHEDULE_HEADINGS
        rows = [row + _schedule_cells(job, now) for row, job in zip(rows, jobs, strict=True)]
    return _table(headings, rows)


def _queue_row(handler: JobHandler) -> tuple[str, ...]:
    order = "fifo" if handler.fifo else "-"
    return (handler.name, handler.file, f"{handler.timeout:g} s", str(handler.retries), order)


def _http_cell(handler: JobHandler) -> str:
    return "users, programs" if handler.http == "user" else "programs"


def _schedule_cells(handler: JobHandler, now: datetime) -> tuple[str, ...]:
    if handler.schedule is None:
        return ("-", "-")
    return (handler.schedule.words, handler.schedule.next_run_in_words(now.astimezone(UTC)))


def _where(hook: Hook | None) -> str:
    return hook.file if hook is not None else "off"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [tuple(headings), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
