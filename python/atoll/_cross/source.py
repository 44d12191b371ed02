"""The source of code that is in no file: a notebook's cell, `-c`, what was typed.

linecache has it where the code was made. It goes with code that is sent, so that tracebacks
show their lines there too.
"""

from __future__ import annotations

import sys
from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def lines_of(code: CodeType) -> list[str] | None:
    """The lines of what this code was compiled from, if they are in no file."""
    linecache: Any = sys.modules.get("linecache")
    if linecache is None:  # nobody has given it any
        return None
    if hasattr(linecache, "_interactive_cache"):
        lines: list[str] = linecache._getlines_from_code(code)
        if lines:
            return lines
    known = linecache.cache.get(code.co_filename)
    # What has been read from a file has the time of it.
    return known[2] if known is not None and len(known) == 4 and known[1] is None else None


def keep(code: CodeType, lines: list[str]) -> None:
    """Let tracebacks find the lines of code that was received."""
    import linecache

    register: Any = linecache
    text, name = "".join(lines), code.co_filename
    if hasattr(linecache, "_interactive_cache"):
        register._register_code(code, text, name)
    # Many texts have the name of exec()'s.
    if name != "<string>" or not hasattr(linecache, "_interactive_cache"):
        linecache.cache[name] = (len(text), None, lines, name)
