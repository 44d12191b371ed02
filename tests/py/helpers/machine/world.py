"""The world of one program: its things, its steps, its end.

A program is a row of steps, each a method of World. What comes of a step is looked at as
far as it is known: if nobody else uses a thing exactly, else as a set of what may come.
The end lets everybody go, waits for all of them, and sees whether the sums are right and
nothing is left.
"""

import faulthandler
import gc
import logging
import operator
import signal
import sys
import threading
import time
import warnings

import atoll
import atoll._tasks.task

from .base import LIMIT, PATIENCE, Base, Left, need, until
from .interps import Interps
from .lines import Lines
from .process import Process
from .sabotage import Sabotage
from .sync import Sync
from .tasks import Tasks


class Output:
    """What interpreters print: kept, and looked at."""

    encoding, errors = "utf-8", "replace"

    def __init__(self):
        self.lock = threading.Lock()
        self.text = ""

    def write(self, text):
        with self.lock:
            self.text += text
        return len(text)

    def flush(self):
        pass

    def has(self, line):
        return f"{line}\n" in self.text


def is_news(record):
    """Not that a coroutine has ended with the interrupt that was meant for it."""
    return "KeyboardInterrupt" not in record.getMessage()


warmed = []


def warm_up():
    """What is made once in a process is not what a program has left behind."""
    if warmed:
        return
    warmed.append(True)
    warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads: the point
    logging.getLogger("concurrent.futures").addHandler(logging.NullHandler())
    logging.getLogger("asyncio").addFilter(is_news)
    atoll._tasks.task._EXIT_GRACE = 0.3
    atoll.warm(0)
    go = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1) as pool:
        future = pool.submit(operator.methodcaller("get"), go)
        future.add_done_callback(id)  # not done yet: so there is a thread for it
        go.put(None)
        future.result()
    with atoll.ticker(0.001) as ticks:
        ticks.recv(5)
    gc.collect()


class World(Lines, Interps, Sync, Tasks, Process, Sabotage, Base):
    """A program's things. Its methods are the steps."""

    def __init__(self, leaves=False):
        warm_up()
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        self.before = Left()
        super().__init__(leaves)
        self.dropped, self.children, self.tracing = [], [], None
        self.mutexes, self.spent, self.semaphores, self.events = [], [], [], []
        self.barriers, self.conditions, self.counting, self.called = [], [], [], []
        self.counter, self.cells, self.cell_value = atoll.Counter(), atoll.Cell(None), None
        self.prints = self.ticks = 0
        self.in_child = False
        self.output = Output()
        self.stdout, sys.stdout = sys.stdout, self.output

    # -------------------------------------------------------------------- the end

    def finish(self):
        """All of them are let go; all must end; the sums must be right."""
        self.end()  # its variables refer to things
        self.forget()

    def end(self):
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.setswitchinterval(0.005)
        self.ending = True
        if self.tracing is not None:
            self.tracing.stop()
        self.end_children()
        for line in self.lines:
            self.close_line(line)
        self.end_sync()
        self.over.set()
        for condition, *_ in self.conditions:
            self.wake(condition)
        for act in self.acts:
            act.end(self)
        self.end_pools()
        self.wait_for_reports()
        for line in self.lines:
            self.drain(line)
        self.balance()
        self.balance_sync()
        self.end_places()

    def wait_for_reports(self):
        """Code may run on when its future is cancelled; it says so when it is over."""

        def heard():
            self.hear()
            return not [
                act for act in self.acts
                if act.began and act.log is None and not act.interrupted
            ]  # fmt: skip

        for act in self.acts:
            if act.future is not None:
                until(lambda act=act: not act.future.is_alive(), act, "goes on for ever")
        until(heard, "an activity has begun and not reported")
        for act in self.acts:
            if act.log is None:
                # It has not begun, or was hit by an interrupt as it reported.
                need(hasattr(act, "work") or act.error or act.interrupted, act,
                     "has ended without a report")  # fmt: skip
                continue
            errors = {act.log["error"], *act.log.get("errors", ())} - {None}
            need(errors <= act.may(), act, "met", act.log, "but only", sorted(act.may()))

    def forget(self):
        """Nothing may stay of what there was."""
        before, hook = self.before, self.hook
        sys.stdout = self.stdout
        threading.excepthook = hook
        self.__dict__.clear()
        atoll.warm(0)
        faulthandler.cancel_dump_traceback_later()
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        grown, end, pause = {}, time.monotonic() + LIMIT / 2, 0.001
        gc.collect()
        while grown := Left().grown(before):
            need(time.monotonic() < end, "left behind:", grown)
            time.sleep(pause)  # most of it ends by itself, soon
            pause *= 2
            if pause > 0.02:
                gc.collect()
        faulthandler.cancel_dump_traceback_later()

    def leave(self):
        """The process ends now, in the middle of everything."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout = self.stdout
