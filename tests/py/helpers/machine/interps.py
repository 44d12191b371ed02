"""Interpreters: made, used, interrupted and closed while they do something."""

import threading
import time

import atoll

from . import parties
from .base import LIMIT, VENUES, Act, alarmed, attempt, need, rule

WORKS = tuple(parties.WORKS)

#: What a work may raise besides KeyboardInterrupt when it is interrupted: code of the
#: standard library that is ended in the middle, or what it runs itself.
DISTURBED = {
    "nested": {"InterpreterError", "InterpreterNotFoundError", "ExecutionFailed"},
    "pooled": {"CancelledError", "BrokenInterpreterPool", "RuntimeError"},
    "threaded": {"RuntimeError", "IndexError"},
}


class Interps:
    """The steps with interpreters."""

    @rule(3, name=(None, None, "name"), preload=((), (), ("json",)))
    def create(self, name, preload):
        if len(self.places) < 6:
            self.new_place(name=name, preload=preload)

    @rule(2, count=(0, 1, 2), wait=(True, False))
    def warm(self, count, wait):
        have = atoll.warm(count, wait=wait)
        need(have <= 16 and (not wait or have >= count), "warm", count, "made", have)

    @rule(3, place=4, timeout=(None, 0, 0.005, 0.1, 2.0))
    def close(self, place, timeout):
        place = self.any_place(place)
        was_open, busy, daemons = place.open, place.busy(), place.__dict__.get("daemons")
        place.errors |= {"InterpreterNotFoundError", "InterpreterError"}
        _, error = attempt(place.thing.close, timeout)
        if error is None:
            need(was_open is not None, place.thing, "was closed twice")
            place.open = None
        elif error == "InterpreterNotFoundError":
            need(not was_open, place.thing, "is gone, and nobody has closed it")
        else:
            need(error == "InterpreterError", place.thing, "close raised", error)
            # Without a limit it is refused only if something runs there.
            need(busy or daemons or not was_open or timeout is not None, place.thing,
                 "is idle, and cannot be closed")  # fmt: skip
            if timeout is not None and was_open:
                place.open = False  # it may go on closing
            place.errors |= {"RuntimeError"}  # of a pool: exit handlers may have run

    @rule(1, place=4)
    def drop(self, place):
        """Nobody refers to it any more: it closes when it is idle."""
        if place < len(self.places):
            gone = self.places.pop(place)
            gone.errors |= {"InterpreterNotFoundError"}
            self.dropped.append(gone)
            gone.thing = None

    @rule(3, place=4)
    def interrupt(self, place):
        place = self.any_place(place)
        self.disturb(place.acts)
        value, error = attempt(place.thing.interrupt)
        if error is None:
            need(value in (True, False), "interrupt returned", value)
        else:
            need(error == "InterpreterNotFoundError" and not place.open, place.thing,
                 "interrupt raised", error)  # fmt: skip

    def disturb(self, acts, *errors):
        for act in acts:
            if not act.settled:
                act.interrupted = True
                if act.place:
                    act.place.disturbed = True
                act.errors |= {"KeyboardInterrupt", *errors} | DISTURBED.get(act.name, set())

    @rule(4, place=4, what=("adds", "raises", "prints", "syntax", "closure", "exits"))
    def exec(self, place, what):
        place = self.any_place(place)
        self.meet_calls(place)
        self.prints += 1
        text = f"line {self.prints}"
        source, want = {
            "adds": ("x = 1 + 1", None),
            "raises": ("raise LookupError('machine')", "LookupError"),
            "prints": (f"print({text!r})", None),
            "syntax": ("1 +", "SyntaxError"),
            "closure": (lambda: place, "ValueError"),
            "exits": ("import sys; sys.exit(3)", "SystemExit"),
        }[what]
        _, error = attempt(place.thing.exec, source)
        self.look_at(place, error, want)
        if what == "prints" and error is None:
            need(self.output.has(text), text, "was printed, and has not come")

    def meet_calls(self, place):
        """What main does there now may be in the way of calls that begin."""
        for act in place.acts:
            if act.venue == "call" and not act.settled:
                act.errors.add("InterpreterError")

    def look_at(self, place, error, want):
        """What came of a call of main's own in a place."""
        if error == want:
            return
        may = set()
        if place.busy() or any(act.venue in ("call", "submit") for act in place.acts):
            may.add("InterpreterError")
        if not place.open:
            may |= {"InterpreterNotFoundError", "InterpreterError"}
        if "RuntimeError" in place.errors:
            may.add("RuntimeError")
        need(error in may, "a call in", place.thing, "raised", error, "instead of", want)

    @rule(4, place=4, work=WORKS)
    def call(self, place, work):
        """Main waits for it, so nothing without an end."""
        place = self.any_place(place)
        if work in parties.ENDLESS or work in ("nap", "awaits"):
            work = "give"
        self.meet_calls(place)
        n = len(self.acts)
        try:
            value, error = attempt(place.thing.call, parties.WORKS[work], n, self.over)
        except SystemExit:
            value, error = None, "SystemExit"
        if error is None:
            need(value == parties.answer(work, n), work, "returned", value)
        self.look_at(place, error, parties.RAISES.get(work))
        if work == "daemon":
            place.daemons = True

    @rule(2, place=4, work=("blocked", "spins", "sleeps", "give", "nested"),
          delay=(0.0005, 0.003, 0.02))  # fmt: skip
    def call_alarmed(self, place, work, delay):
        """A signal ends main's wait, and what it waits for."""
        place = self.any_place(place)
        self.meet_calls(place)
        call = place.thing.call, parties.WORKS[work], 1, self.over
        value, error = alarmed(delay, *call)
        if error is None:
            need(value == 1 and work not in parties.ENDLESS, work, "returned", value)
        elif error != "Ticked":
            self.look_at(place, error, None)
        elif place.open:
            self.acts.append(self.leftover(place))

    def leftover(self, place):
        """What main has not waited for may go on for a while."""
        act = Act(len(self.acts), "leftover", "main", [])
        act.place = place
        act.thread = threading.Thread(target=self.until_idle, args=(place.thing,), daemon=True)
        act.work = True
        place.acts.append(act)
        act.thread.start()
        return act

    @staticmethod
    def until_idle(interp):
        try:
            while interp.is_running():
                time.sleep(0.001)
        except atoll.InterpreterNotFoundError:
            pass

    @rule(1, place=4, timeout=(None, 0.01, 1.0))
    def close_twice(self, place, timeout):
        """Two at once: it is closed once."""
        place = self.any_place(place)
        place.errors |= {"InterpreterNotFoundError", "InterpreterError", "RuntimeError"}
        was_open, outcomes = place.open, []
        thing = place.thing

        def close():
            outcomes.append(attempt(thing.close, timeout)[1])

        threads = [threading.Thread(target=close) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
            need(not thread.is_alive(), thing, "does not close, nor say why")
        may = {None, "InterpreterError", "InterpreterNotFoundError"}
        need(set(outcomes) <= may, thing, "closed twice gave", outcomes)
        if was_open:
            place.open = False
        else:
            need(None not in outcomes or was_open is False, thing, "was closed again")

    @rule(1, place=4, other=4, how=("call", "close", "interrupt"))
    def hand_over(self, place, other, how):
        """One interpreter uses another."""
        place, other = self.any_place(place), self.any_place(other)
        self.meet_calls(place)
        self.meet_calls(other)
        if how == "close":
            other.errors |= {"InterpreterNotFoundError", "InterpreterError"}
            other.open = other.open and False
        elif how == "interrupt":
            self.disturb([*other.acts, *place.acts])
        _, error = attempt(place.thing.call, parties.use, other.thing, how)
        may = {None, "InterpreterError", "InterpreterNotFoundError", "ExecutionFailed",
               "KeyboardInterrupt" if how == "interrupt" else None}  # fmt: skip
        need(error in may, how, "of", other.thing, "in", place.thing, "raised", error)
        if place is not other and place.open and other.open and not place.acts and (
            not other.acts and how == "call"
        ):
            need(error is None, how, "of an idle interpreter raised", error)

    @rule(1, place=4)
    def prepare(self, place):
        place = self.any_place(place)
        self.meet_calls(place)
        names = {"number": len(self.places), "report": self.report}
        _, error = attempt(place.thing.prepare_main, names)
        self.look_at(place, error, None)
        _, error = attempt(place.thing.exec, "number += 0; report.qsize()")
        self.look_at(place, error, None) if error != "NameError" else None

    @rule(6, venue=VENUES[1:], where=3, name=WORKS, timeout=(None, None, None, 0.01, 0.1))
    def do(self, venue, where, name, timeout):
        """Some work somewhere, at the same time."""
        if venue == "call" and name in ("nap", "awaits"):
            venue = "submit"
        if venue in ("call", "submit"):
            timeout = None
        act = self.work(venue, where, name, timeout)
        if timeout is not None:
            self.disturb([act])
        if name == "daemon" and act.place is not None:
            act.place.daemons = True

    @rule(1, place=4)
    def raw_thread(self, place):
        """A thread that threading does not know, which ends with the program."""
        place = self.any_place(place)
        if not place.open:
            return
        self.meet_calls(place)
        _, error = attempt(place.thing.prepare_main, over=self.over)
        if error is None:
            source = "import _thread; _thread.start_new_thread(over.wait, ())"
            _, error = attempt(place.thing.exec, source)
            place.daemons = True
        self.look_at(place, error, None) if error != "NameError" else None

    @rule(2, place=4)
    def attributes(self, place):
        """What is asked at any moment, of anybody."""
        place = self.any_place(place)
        repr(place.thing)
        running, error = attempt(place.thing.is_running)
        if error is not None:
            need(error == "InterpreterNotFoundError" and not place.open, place.thing,
                 "is_running raised", error)  # fmt: skip
        ids = [interp.id for interp in atoll.list_all()]
        need(len(ids) == len(set(ids)) and 0 in ids, "list_all gave", ids)
        if place.open:
            need(place.thing.id in ids, place.thing, "is not in", ids)

    def end_places(self):
        """All interpreters are closed, or are already."""
        for place in self.places:
            if place.open is None:
                _, error = attempt(place.thing.close)
                need(error == "InterpreterNotFoundError", place.thing, "closed again gave",
                     error)  # fmt: skip
                continue
            if threading.active_count() % 2:
                attempt(place.thing.interrupt)
            _, error = attempt(place.thing.close, 20.0)
            end = time.monotonic() + LIMIT
            while error == "InterpreterError" and place.__dict__.get("daemons"):
                # Threads that threading does not know, on their way out.
                if time.monotonic() > end:
                    break
                time.sleep(0.01)
                _, error = attempt(place.thing.close, 20.0)
            if error == "InterpreterNotFoundError":
                need(not place.open, place.thing, "is gone, and nobody has closed it")
            else:
                need(error is None, place.thing, "cannot be closed at the end:", error)
            place.open = None
