"""What is the process's: signals, forks, the time that passes; and memory that is shared."""

import faulthandler
import gc
import os
import signal
import sys
import threading
import time

import atoll

from . import parties
from .base import PATIENCE, attempt, need, rule, until


class Forked(SystemExit):
    """Ends the child of a fork."""


class Process:
    """The steps that concern the whole process."""

    @rule(3, interval=(0.0005, 0.002, 0.01))
    def alarm(self, interval):
        """From now on a signal comes all the time; its handler returns."""
        signal.signal(signal.SIGALRM, self.tick)
        signal.setitimer(signal.ITIMER_REAL, interval, interval)

    def tick(self, signum, frame):
        self.ticks += 1

    @rule(2)
    def silence(self):
        signal.setitimer(signal.ITIMER_REAL, 0)

    @rule(4, seconds=(0, 0.001, 0.003, 0.01))
    def pause(self, seconds):
        time.sleep(seconds)

    @rule(1)
    def settle(self):
        """Until what can end has ended."""
        end = time.monotonic() + 0.05
        while time.monotonic() < end and any(not act.over() for act in self.acts):
            time.sleep(0.001)

    @rule(1, seconds=(None, 0.0001, 0.1))
    def switch(self, seconds):
        """How often threads of main take turns."""
        sys.setswitchinterval(seconds or 0.005)

    @rule(2, stacks=(True, False))
    def dump(self, stacks):
        begin = time.monotonic()
        text = atoll.dump(stacks=stacks)
        need("interpreter 0" in text, "dump has no main:", text)
        need(time.monotonic() - begin < 20, "dump took its time")

    @rule(1)
    def collect(self):
        gc.collect()

    @rule(1, seconds=(0, 0.001, 0.004), ticks=(0, 2))
    def timers(self, seconds, ticks):
        begin = time.monotonic()
        when = atoll.after(seconds)
        at = when.recv(30)
        need(begin <= at <= time.monotonic(), "after gave", at, "it began", begin)
        if ticks:
            with atoll.ticker(0.0005) as every:
                got = [every.recv(30) for _ in range(ticks)]
            need(got == sorted(set(got)), "a ticker gave", got)

    @rule(2, place=4, how=("get", "view"), size=(3, 300))
    def freeze(self, place, how, size):
        """A frozen graph, read by main and by an interpreter."""
        frozen = atoll.freeze({"rows": [{"n": n, "name": str(n)} for n in range(size)]})
        want = sum(range(size))
        need(parties.read_frozen(frozen, "view") == want, "a view of a frozen graph is wrong")
        self.use_there(place, parties.read_frozen, (frozen, how), want)

    @rule(2, place=4, at=8)
    def share(self, place, at):
        memory = bytearray(9)
        view = atoll.share(memory)
        value = bytes([at])
        if self.use_there(place, parties.write_memory, (view, at), value):
            need(memory[at] == at, "what was written to shared memory is not there")

    @rule(2, place=4, size=(10, 100_000))
    def move(self, place, size):
        data = bytearray(size)
        moved = atoll.move(data)
        need(not data, "what was moved is still here")
        if not self.use_there(place, parties.take_moved, (moved,), size):
            back, error = attempt(moved.take)
            need((error is None and len(back) == size) or error, "moved memory is gone")

    def use_there(self, place, function, args, want):
        """A call of main's own; false if it was refused."""
        place = self.any_place(place)
        self.meet_calls(place)
        value, error = attempt(place.thing.call, function, *args)
        self.look_at(place, error, None)
        if error is None:
            need(value == want, function.__name__, "gave", value, "instead of", want)
        return error is None

    @rule(1, file=(True, False))
    def trace(self, file):
        """On, if it is off; off, if it is on."""
        if self.tracing is None:
            self.tracing = atoll.trace(os.devnull, messages=file)
            self.tracing.__enter__()
        else:
            self.tracing.stop()
            self.tracing = None

    @rule(2, how=("exit", "exit", "_exit"), work=("give", "nested", "pooled", "spawn", "none"),
          place=4, line=6)  # fmt: skip
    def fork(self, how, work, place, line):
        """The child uses some things and ends; the parent goes on, and waits for it."""
        if hasattr(sys, "gettotalrefcount"):
            # An assertion of CPython's forbids to exit while the parent's interpreters
            # are counted.
            how = "_exit"
        gone = self.places[place % len(self.places)] if self.places else None
        old = self.lines[line % len(self.lines)] if self.lines else None
        faulthandler.cancel_dump_traceback_later()  # a child would wait for its thread
        pid = os.fork()
        if pid:
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            self.children.append(pid)
            return
        self.in_child = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.dump_traceback_later(PATIENCE / 3, exit=True)
        if old is not None:
            get = old.queue.get_nowait if old.queue else old.source.recv_nowait
            _, error = attempt(get)
            need(error == "ForkedError", "a line of the parent's gave", error)
        if gone is not None and gone.thing is not None:
            _, error = attempt(gone.thing.exec, "pass")
            need(error == "InterpreterNotFoundError", "an interpreter of the parent's gave",
                 error)  # fmt: skip
        for act in self.acts:
            if act.future is not None:
                repr(act.future)
        over = atoll.Event()
        if work == "spawn":
            got = atoll.spawn(parties.give, 5, over).result(20)
        elif work in parties.WORKS:
            got = parties.WORKS[work](5, over)
        else:
            got = 5
        need(got == 5, "the child's", work, "gave", got)
        queue = atoll.create_queue()
        threading.Thread(target=queue.put, args=(got,)).start()
        need(queue.get(timeout=20) == 5, "the child's queue")
        if how == "_exit":
            os._exit(0)
        raise Forked(0)

    def end_children(self):
        for pid in self.children:
            done = []
            until(lambda pid=pid, done=done: done.extend(
                [status for one, status in [os.waitpid(pid, os.WNOHANG)] if one]) or done,
                "the child", pid, "of a fork does not end")  # fmt: skip
            need(done == [0], "the child of a fork ended with status", done)
        self.children = []
