"""Takes text or bytes; of the other annotations, one is there for type checkers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


async def handler(data: str | bytes, user: Mapping[str, str] | None) -> str:
    return type(data).__name__
