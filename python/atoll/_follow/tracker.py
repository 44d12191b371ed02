"""One resource tracker of multiprocessing's for the process, which main owns.

The tracker is a process that removes shared memory which nobody has removed. It ends
when the pipe to it is closed: so an interpreter uses the descriptor of main's and never
closes it. If main has none, the interpreter that needs it starts it, and main takes over.
"""

from __future__ import annotations

import marshal
import sys

from .. import _core
from .._hook import after_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAME = "multiprocessing.resource_tracker"
# That of main, as far as is known here.
_fd: int | None = None
_tracker: Any = None


def use(fd: int | None) -> None:
    """In an interpreter: use the descriptor of main's."""
    global _fd
    _fd = fd
    if _tracker is None:
        after_import(_NAME, _connect)
    elif fd is not None:
        _tracker._fd = fd


def _connect() -> None:
    global _tracker
    module: Any = sys.modules[_NAME]
    base: Any = module.ResourceTracker

    class Shared(base):  # type: ignore[misc]
        """The tracker of the process, from an interpreter that is not main."""

        _fd: Any
        _pid: Any

        def _find(self) -> None:
            """Have its descriptor."""
            if self._fd is not None:
                return
            fd, _ = _core._share_tracker(-1, -1)
            if fd < 0:
                if hasattr(base, "_launch"):
                    with self._lock:
                        self._launch()
                else:
                    base.ensure_running(self)
                own: Any = (self._fd, self._pid)
                fd, _ = _core._share_tracker(*own)
                if fd != own[0]:  # another one was faster
                    base._stop(self)
                else:
                    _core._send_record(marshal.dumps(("tracker", *own)))
            self._fd, self._pid = fd, None

        def ensure_running(self) -> None:
            self._find()
            base.ensure_running(self)

        def _ensure_running_and_write(self, msg: Any = None) -> None:
            self._find()
            base._ensure_running_and_write(self, msg)

        def _stop(self, *args: Any, **kwargs: Any) -> None:
            """It is not this interpreter's to stop."""

        def __del__(self) -> None:
            pass

    _tracker = module._resource_tracker
    _tracker.__class__ = Shared
    _tracker._fd = _fd
    module.ensure_running = _tracker.ensure_running


def adopt(fd: int, pid: int) -> None:
    """In main: an interpreter has started the tracker."""
    import multiprocessing.resource_tracker as module

    tracker: Any = module._resource_tracker
    if tracker._fd is None:
        tracker._fd, tracker._pid = fd, pid
