"""What a task calls: somebody's function by way of one of atoll's own."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def named_after(function: Callable[..., Any], way: Callable[..., Any]) -> Callable[..., Any]:
    """``way(function, ...)`` as a callable that a timeline shows as `function`."""
    from functools import partial

    call = partial(way, function)
    inner = function.func if isinstance(function, partial) else function
    name = getattr(inner, "__qualname__", None)
    if isinstance(name, str):
        call.__qualname__ = name  # type: ignore[attr-defined]
    return call
