"""What an application offers, as text for people."""

from collections.abc import Iterable, Sequence

from worker.middleware import Hook, Hooks
from worker.routes import Route, Routes


def listing(routes: Routes) -> str:
    """The routes with their middleware, and the queues, as tables."""
    parts = [_table(_ROUTE_HEADINGS, (_route_row(route) for route in routes.sockets))]
    if not routes.sockets:
        parts = ["no routes: messages are answered with an error, connections only receive"]
    authenticate = _where(routes.authenticate) if routes.authenticate else "everybody is let in"
    parts.append(f"on_authenticate: {authenticate}")
    if routes.queues:
        rows = ((name, job.file, f"{job.timeout:g} s") for name, job in routes.queues.items())
        parts.append(_table(("queue", "file", "timeout"), rows))
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


def _where(hook: Hook | None) -> str:
    return hook.file if hook is not None else "off"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [tuple(headings), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
