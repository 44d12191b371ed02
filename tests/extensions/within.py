"""Called by name in the interpreters: a use, which is imported there."""

import importlib
import threading
import time

#: A use is repeated for this many seconds, or several would never overlap.
LEAST = 0.1


def use(module: str, seed: int) -> None:
    """Import the use and run it; it must leave no thread behind."""
    before = set(threading.enumerate())
    function = importlib.import_module("uses." + module).use
    end = time.monotonic() + LEAST
    function(seed)
    while time.monotonic() < end:
        seed += 1
        function(seed)
    # In main, callers of interpreters may have been started meanwhile.
    after = set(threading.enumerate()) - before
    for thread in after:
        if not thread.daemon and thread.name != "caller":
            thread.join(5)
    left = [
        thread.name
        for thread in after
        if thread.is_alive() and not thread.daemon and thread.name != "caller"
    ]
    assert not left, f"the use left threads behind: {left}"
