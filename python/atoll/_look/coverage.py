"""coverage.py in interpreters: plain `coverage run` measures what runs in them.

configuration() runs where an interpreter is made, measure() in it, and add() in main, when
it has ended: what it has measured comes like what it prints (ext/output/output.h).
"""

from __future__ import annotations

import sys

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# In main: the Coverage that is measuring, or was when the last interpreter was made.
_measuring: Any = None

# How Coverage() is told that it gets the text of config.serialize() and no file's name.
_AS_DATA = ":data:"


def configuration() -> str | None:
    """What measures here, as text for measure(); None if nothing does, or if coverage.py
    is older than 7.10."""
    global _measuring
    coverage = sys.modules["coverage"]
    current = getattr(getattr(coverage, "Coverage", None), "current", None)
    measuring = None if current is None else current()
    serialize = getattr(getattr(measuring, "config", None), "serialize", None)
    if serialize is None:
        return None
    _measuring = measuring
    return str(serialize())


def measure(config: str) -> None:
    """Begin to measure here, and have the end of the interpreter send what was measured.

    Not if coverage has begun by itself, as told by COVERAGE_PROCESS_START or `patch =
    subprocess`: it then writes files of its own, to be combined.
    """
    import atexit

    from coverage import Coverage  # type: ignore[import-not-found,unused-ignore]

    if Coverage.current() is not None:
        return
    here = Coverage(data_file=None, config_file=_AS_DATA + config)
    here._warn_no_data = False
    here._warn_unimported_source = False
    here._warn_preimported_source = False
    here.set_option("run:patch", [])  # of the process: main has done it
    here.set_option("run:sigterm", False)

    def send() -> None:
        here.stop()
        data = here.get_data()
        if data:
            _core._send_record(data.dumps(), _core._OUTPUT_COVERAGE)
        data.close(force=True)

    atexit.register(send)
    here.start()


def add(data: bytes) -> None:
    """In main: add what an interpreter has measured to main's, also if that is saved."""
    from coverage import CoverageData

    there = CoverageData(no_disk=True)
    there.loads(data)
    # Not get_data(), which looks at what main is measuring just now.
    main = getattr(_measuring, "_data", None) or _measuring.get_data()
    main.update(there)
    there.close(force=True)
