"""Warnings of interpreters, shown by main's module warnings: so pytest.warns() and
catch_warnings(record=True) there see what a task has warned of.

connect() runs in an interpreter of atoll's when it imports warnings, handle() in main.
What is a warning, an error or nothing is decided where the code runs, by filters that
follow main's.
"""

from __future__ import annotations

import marshal
import sys
import warnings

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def connect(stderr: object) -> None:
    """Send to main what nobody catches or shows here; `stderr` is this interpreter's."""
    module: Any = warnings
    show = module._showwarnmsg_impl

    def forward(msg: warnings.WarningMessage) -> None:
        if sys.stderr is not stderr:  # the code here has redirected it
            show(msg)
            return
        try:
            cls = msg.category
            names = [(c.__module__, c.__qualname__) for c in cls.__mro__]
            data = (str(msg.message), names, msg.filename, msg.lineno, msg.line)
            _core._send_record(marshal.dumps(("warning", *data)))
        except Exception:
            show(msg)

    module._showwarnmsg_impl = forward


def handle(
    text: str, names: list[tuple[str, str]], filename: str, lineno: int, line: str | None
) -> None:
    """In main: show it, with the class that is closest to its own of those here."""
    category = next(filter(None, map(_find, names)), Warning)
    try:
        message = category(text)
    except Exception:  # it takes other arguments
        message, category = Warning(text), Warning
    shown = warnings.WarningMessage(message, category, filename, lineno, line=line)
    warnings._showwarnmsg(shown)  # type: ignore[attr-defined]


def _find(name: tuple[str, str]) -> type[Warning] | None:
    found: Any = sys.modules.get(name[0])
    for part in name[1].split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Warning) else None
