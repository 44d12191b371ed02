"""What is written to the process's descriptors while workers run tests: by the processes
that tests start, and by C code."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    import pytest


class Stray:
    """Takes it off the terminal while the block runs, if pytest captures descriptors.

    The terminal reporter writes to a duplicate meanwhile. `text` is what was written.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.text = ""
        manager = config.pluginmanager
        reporter: Any = manager.get_plugin("terminalreporter")
        self._capture: Any = None
        self._file: IO[str] | None = None  # the duplicate
        self._own: Any = None
        # Another reporter may write as it likes.
        if type(reporter).__module__ == "_pytest.terminal" and config.option.capture == "fd":
            self._writer: Any = reporter._tw
            self._capture = manager.get_plugin("capturemanager")

    def __enter__(self) -> None:
        if self._capture is None:
            return
        own = self._writer._file
        try:
            own.flush()
            copy = os.dup(own.fileno())
        except (AttributeError, OSError, ValueError):
            return  # it is no file of the system's
        self._file = open(copy, "w", encoding=own.encoding, errors=own.errors)
        self._own, self._writer._file = own, self._file
        self._capture.resume_global_capture()

    def __exit__(self, *exc_info: object) -> None:
        if self._file is None:
            return
        self._capture.suspend_global_capture()
        self.text = "".join(self._capture.read_global_capture())
        self._writer._file = self._own
        self._file.close()
