"""What the steps of a program have in common: rules, activities, the report of parties."""

import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from concurrent import futures

import atoll

from . import parties

#: Seconds that a program may take; then all its stacks are printed, and it is killed.
PATIENCE = float(os.environ.get("ATOLL_MACHINE_PATIENCE", "90"))

#: Seconds in which whatever has to come has to come. The machine may be busy.
LIMIT = PATIENCE / 3

VENUES = ("thread", "call", "submit", "pool", "spawn")

#: name -> (weight, {argument: what it may be}); see program.py.
RULES = {}


class Broken(AssertionError):
    """Something that must hold does not."""


def rule(weight=2, **arguments):
    """A step of programs. Each argument is drawn from what is said: a tuple of values,
    or a number, for one of 0 up to it."""

    def mark(function):
        RULES[function.__name__] = (weight, arguments)
        return function

    return mark


def need(condition, *what):
    if not condition:
        raise Broken(" ".join(map(str, what)))


def until(condition, *what, limit=LIMIT):
    """Wait until it is true; only for what nothing can be waited for."""
    end = time.monotonic() + limit
    while not (value := condition()):
        need(time.monotonic() < end, *what)
        time.sleep(0.002)
    return value


def name_of(exc):
    """The error as the model knows it: what code in an interpreter has raised counts as
    raised here."""
    if isinstance(exc, atoll.ExecutionFailed):
        return exc.excinfo.type.__name__
    return None if exc is None else type(exc).__name__


def attempt(function, *args, **kwargs):
    """(value, None) or (None, name of the error)."""
    try:
        return function(*args, **kwargs), None
    except Exception as exc:
        return None, name_of(exc)


#: Parties that import asyncio themselves. An interrupt in the middle of that leaves a
#: package that does not find its submodules, as CPython's own Ctrl-C does.
IMPORTERS = {"own_time", "await_items"}
HALF_IMPORTED = {"NameError", "AttributeError", "ImportError"}


class Ticked(Exception):
    """What the handler of a signal raises."""


def alarmed(delay, function, *args):
    """The same, and a signal comes soon whose handler raises: (None, "Ticked")."""
    armed, value, error = [True], None, None

    def handler(signum, frame):
        if armed:
            armed.clear()
            raise Ticked

    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    # The last of that timer's signals are seen here, by their own handler.
    before = signal.signal(signal.SIGALRM, handler)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            value = function(*args)
        finally:
            armed.clear()
    except BaseException as exc:
        error = name_of(exc)
    armed.clear()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    signal.setitimer(signal.ITIMER_REAL, *timer)
    return value, error


class Place:
    """An interpreter or a pool: what runs there, and what may have happened to it."""

    def __init__(self, thing):
        self.thing = thing
        self.acts = []
        self.errors = set()  # what its acts may end with besides their own errors
        self.open = True  # False: closed, or perhaps
        self.disturbed = False  # something in it has been interrupted

    def busy(self):
        return any(not act.over() for act in self.acts)


class Act:
    """Something that runs at the same time as the program's own steps."""

    def __init__(self, number, name, venue, lines):
        self.number = number
        self.name = name
        self.venue = venue
        self.lines = lines
        self.place = None
        self.thread = self.future = self.error = None
        self.raised = None
        self.log = None  # what a party has reported
        self.began = False
        self.errors = set()
        self.beside = ()  # those who count what is inside a semaphore with it
        self.interrupted = False
        self.settled = False

    def __repr__(self):
        where = f" of {self.place.thing!r}" if self.place else ""
        return f"activity {self.number} {self.name!r} in {self.venue}{where}"

    def over(self):
        if self.thread is not None:
            return not self.thread.is_alive()
        return self.future.done() and not self.future.is_alive()

    def may(self):
        """What it may end with."""
        errors = self.own_errors().union(*(line.may() for line in self.lines))
        if any("KeyboardInterrupt" in act.own_errors() for act in self.beside):
            errors.add("AssertionError")  # one has been counted in, and not out
        if self.name in IMPORTERS and self.place and self.place.disturbed:
            errors |= HALF_IMPORTED
        return errors

    def own_errors(self):
        return self.errors | (self.place.errors if self.place else set())

    def end(self, world):
        """Wait for its end, and look at how it has ended."""
        if self.settled:
            return
        if self.thread is not None:
            self.thread.join(LIMIT)
            need(not self.thread.is_alive(), self, "does not end")
            error = world.thread_errors.pop(self.thread, None)
        else:
            if self.number % 2:
                futures.wait([self.future], LIMIT)
            else:
                self.future._wait(LIMIT)
            need(self.future.done(), self, "has a future that does not end")
            if self.future.cancelled():
                error = "CancelledError"
            else:
                self.raised = self.future.exception(LIMIT)
                error = name_of(self.raised)
        self.settled = True
        self.error = error
        need(error is None or error in self.may(), self, "ended with", error, "not one of",
             sorted(self.may()), *traceback.format_exception(self.raised))  # fmt: skip


class Base:
    """The bookkeeping of a world."""

    def __init__(self, leaves=False):
        self.leaves = leaves
        self.places = []  # interpreters
        self.pools = []
        self.acts = []
        self.lines = []
        self.senders = 0
        self.ending = False
        self.report = atoll.create_queue()
        self.over = atoll.Event()
        self.thread_errors = {}
        self.hook = threading.excepthook
        threading.excepthook = self._note_thread

    def _note_thread(self, args):
        self.thread_errors[args.thread] = name_of(args.exc_value)

    # ------------------------------------------------------------- activities

    def place(self, n):
        """An open interpreter, a new one if there is none."""
        there = [place for place in self.places if place.open]
        if not there:
            return self.new_place()
        return there[n % len(there)]

    def new_place(self, **options):
        place = Place(atoll.create(**options))
        self.places.append(place)
        return place

    def any_place(self, n):
        """Also a closed one."""
        return self.places[n % len(self.places)] if self.places else self.new_place()

    def pool_at(self, n):
        there = [pool for pool in self.pools if pool.open]
        if not there:
            return self.new_pool()
        return there[n % len(there)]

    def new_pool(self, workers=2, **options):
        thing = atoll.InterpreterPoolExecutor(
            workers, grace=0.2, exit_grace=0.2, **options
        )
        pool = Place(thing)
        pool.workers = workers
        self.pools.append(pool)
        return pool

    def act(self, venue, where, name, args, lines=(), wrap=True):
        """Start a party somewhere; returns its Act."""
        act = Act(len(self.acts), name, venue, list(lines))
        self.acts.append(act)
        call = (self.report, act.number, name, args)
        self._launch(act, venue, where, parties.party, call)
        return act

    def work(self, venue, where, name, timeout=None):
        """Have some work done somewhere."""
        act = Act(len(self.acts), name, venue, [])
        act.work = True
        if name in parties.RAISES:
            act.errors.add(parties.RAISES[name])
        if timeout is not None:
            act.errors.add("TimeoutError")
        self.acts.append(act)
        call = (act.number, self.over)
        self._launch(act, venue, where, parties.WORKS[name], call, timeout)
        return act

    def _launch(self, act, venue, where, function, call, timeout=None):
        if venue == "thread":
            act.thread = threading.Thread(
                target=function, args=call, name=f"act-{act.number}", daemon=True
            )
            act.thread.start()
        elif venue == "call":
            act.place = place = self.place(where)
            if place.acts:
                act.errors.add("InterpreterError")  # it may be running
            self.meet_calls(place)
            place.acts.append(act)
            if self.leaves:  # the end of the process would wait for the other kind
                act.thread = threading.Thread(
                    target=place.thing.call, args=(function, *call), daemon=True
                )
                act.thread.start()
            else:
                act.thread = place.thing.call_in_thread(function, *call)
        elif venue == "submit":
            act.place = place = self.place(where)
            self.meet_calls(place)
            place.acts.append(act)
            act.future = place.thing.submit(function, *call)
        elif venue == "pool":
            act.place = place = self.pool_at(where)
            place.acts.append(act)
            if timeout is None:
                act.future = place.thing.submit(function, *call)
            else:
                act.future = place.thing.submit_with(function, call, timeout=timeout)
        else:
            act.future = atoll.Task(function, call, timeout=timeout, grace=0.2).start()

    def hear(self):
        """Take in what parties have reported."""
        while True:
            try:
                number, log = self.report.get_nowait()
            except atoll.QueueEmpty:
                return
            act = self.acts[number]
            act.began = True
            if log is not None:
                act.log = log

    def unfinished(self):
        self.hear()
        return [act for act in self.acts if not act.settled]


# ------------------------------------------------------------------------ leaks


def threads():
    """The names that the system has for them."""
    found = []
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/comm") as file:
                found.append(file.read().strip())
        except OSError:
            pass  # it has just ended
    return sorted(found)


def descriptors():
    """What each is, without the numbers."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass  # that of the listing
    return sorted(found)


def interpreters():
    import _interpreters

    return sorted(entry[0] for entry in _interpreters.list_all())


#: Threads of which a process has one, from when it is needed on.
SINGLE = {"atoll-service", "atoll-watch", "atoll-timers", "atoll-dispatcher", "atoll-output",
          "atoll-visitor"}  # fmt: skip


class Left:
    """What there is in the process, to be compared with later."""

    def __init__(self):
        self.counts = {
            "threads": threads(),
            "descriptors": descriptors(),
            "interpreters": interpreters(),
            "queues": len(atoll.list_queues()),
            "channels": len(atoll.list_channels()),
            "timers": atoll.stats()["timers"],
            "graphs": atoll.frozen_stats()["graphs"],
            "Python threads": sorted(
                t.name for t in threading.enumerate() if t.name != "atoll-dispatcher"
            ),
        }

    def grown(self, before):
        more = {}
        for key, value in self.counts.items():
            was = before.counts[key]
            if isinstance(value, list):
                value = [one for one in value if one not in SINGLE]
                if left := list((Counter(value) - Counter(was)).elements()):
                    more[key] = left
            elif value > was:
                more[key] = f"{was} -> {value}"
        return more


def say(text):
    """For whoever runs the child; in one piece, also from a process that dies soon."""
    os.write(2 if sys.stderr is None else 1, f"{text}\n".encode())
