"""An object that takes its time to be decoded, until an interrupt comes."""

import os
import signal

from support import Task, until

begun = []


class Slow:
    """Tells when it is being decoded, and is so until an interrupt comes."""

    hold = True

    def __init__(self, load):
        self.load = load

    def __setstate__(self, state):
        self.__dict__.update(state)
        begun.append(1)
        while Slow.hold:
            pass


def interrupted(get, error=KeyboardInterrupt, interrupt=None):
    """Call `get`, which is to be interrupted while it decodes a Slow."""
    begun.clear()
    Slow.hold = True

    def send():
        until(lambda: begun)
        if interrupt is None:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            interrupt()

    task = Task(send)
    try:
        get()
    except error:
        pass
    else:
        raise AssertionError("it was not interrupted")
    task.result()
    Slow.hold = False
