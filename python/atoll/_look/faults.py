"""faulthandler.dump_traceback() for the threads of all interpreters.

CPython's goes through those of the interpreter that calls it. What its signal handlers
write is C code's, which runs in whatever state a process is when it crashes: that stays.
"""

from __future__ import annotations

import os
import sys

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def mend(module: Any) -> None:
    """Replace dump_traceback() of faulthandler, `module`, if that has not been done."""
    own = module.dump_traceback
    if getattr(own, "__module__", None) == __name__:
        return

    def dump_traceback(file: Any = None, all_threads: bool = True, **limits: Any) -> None:
        if file is None:
            file = sys.stderr
        own(file, all_threads, **limits)
        if all_threads:
            _write(file if isinstance(file, int) else file.fileno(), "".join(_others()))

    dump_traceback.__doc__ = own.__doc__
    module.dump_traceback = dump_traceback


def _write(fd: int, text: str) -> None:
    data = text.encode(errors="backslashreplace")
    while data:
        data = data[os.write(fd, data) :]


def _others() -> Iterator[str]:
    """The other interpreters' threads, as faulthandler shows its own."""
    import _interpreters

    here = _interpreters.get_current()[0]
    for id, is_main, name, state, threads, reason in sorted(_core._survey(True)[0]):
        if id == here or state == "spare":
            continue
        who = "the main interpreter" if is_main else f"interpreter {id}"
        if name and not is_main:
            who += f" {name!r}"
        if reason is not None:
            yield f"\nThreads of {who}: {reason}\n"
        for ident, thread, frames in threads:
            label = f"Thread {ident:#018x}" + (f" [{thread}]" if thread else "")
            yield f"\n{label} of {who} (most recent call first):\n"
            yield _frames(frames) or "  <no Python frame>\n"


def _frames(frames: str) -> str:
    """Lines of _survey() as faulthandler has them."""
    return "".join(
        "  " + line.strip().replace(", in ", " in ") + "\n" for line in frames.splitlines()
    )
