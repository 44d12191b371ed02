"""Steps that do what must not happen, to see that the machine sees it. Never drawn."""

import os
import time

import atoll

from . import parties
from .base import rule


class Sabotage:
    @rule(0, line=6)
    def lose(self, line):
        """Somebody takes an item and says nothing."""
        self.line(line).source.get()

    @rule(0, line=6)
    def double(self, line):
        """An item comes twice."""
        line = self.line(line)
        line.queue.put(parties.make(line.main_sent[-1], "small"))

    @rule(0, line=6)
    def swap(self, line):
        """Two items of one sender come the other way round."""
        line = self.line(line)
        sender = self.new_sender()
        line.main_sent += [(line.number, sender, n) for n in (0, 1)]
        for n in (1, 0):
            line.queue.put(parties.make((line.number, sender, n), "small"))
        line.count += 2

    @rule(0)
    def keep(self):
        """An interpreter is left open."""
        kept.append(atoll.create())

    @rule(0)
    def wait(self):
        time.sleep(1000)

    @rule(0)
    def crash(self):
        os.abort()

    @rule(0)
    def complain(self):
        os.write(2, b"something is wrong\n")

    @rule(0, lock=3)
    def forget_lock(self, lock):
        """A lock stays held."""
        self.mutex(lock).lock.acquire()

    @rule(0, lock=3)
    def race(self, lock):
        """What the lock protects is written without it."""
        mutex = self.mutex(lock)
        memoryview(mutex.memory).cast("q")[0] += 1


kept = []
