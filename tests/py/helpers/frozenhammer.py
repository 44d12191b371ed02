"""Twenty interpreters at one frozen graph, for some time. See test_frozen_hammer.py.

    python -m frozenhammer SECONDS SEED

Each walks it, hashes, compares and copies it, makes types and attributes of its
names, ..., and asks questions whose answers are known; then it closes, and another
one begins. Meanwhile main freezes further graphs, some with the first one in them,
sends them along and drops them. At the end nothing may be left.
"""

import faulthandler
import gc
import random
import sys
import threading
import time
import xml.etree.ElementTree as ET

import atoll
import frozenops
from support import UNDER_ASAN, rss_kib

INTERPRETERS = 20
DOCUMENT = (
    "<a k='é'>" + "<b k='1'>one<c/>two</b><c>€<b>𝔘</b>t</c>\n" * 50 + "</a>"
).encode()


class Hammer:
    def __init__(self, seed):
        self.seed = seed
        self.graph = atoll.freeze(frozenops.sample(), name="anvil")
        self.tree = atoll.frozen_xml(DOCUMENT)
        self.expected = (
            frozenops.answers(frozenops.sample()),
            frozenops.read_xml(ET.fromstring(DOCUMENT)),
        )
        self.all_there = threading.Barrier(INTERPRETERS)
        self.lock = threading.Lock()
        self.lives = self.graphs = 0
        self.failures = []

    def live(self, place):
        """One interpreter after the other."""
        chance = random.Random(self.seed * 1000 + place)
        first = True
        while first or (time.monotonic() < self.end and not self.failures):
            with atoll.create() as interp:
                if first:
                    self.all_there.wait(120)
                    first = False
                for _ in range(chance.randrange(1, 3)):
                    graph, tree = self.choose(chance)
                    found = interp.call(
                        frozenops.one_life, graph, tree, chance.random(), chance.randrange(1, 4)
                    )
                    assert found == {self.expected}, (found, self.expected)
                    del graph, tree
            with self.lock:
                self.lives += 1

    def choose(self, chance):
        """Mostly the same ones; else new ones, that only this life has."""
        what = chance.random()
        if what < 0.8:
            return self.graph, self.tree
        with self.lock:
            self.graphs += 2
        if what < 0.9:  # a new handle to the same objects
            return atoll.freeze(self.graph, name="alias"), atoll.freeze(self.tree.view())
        return atoll.freeze(frozenops.sample()), atoll.frozen_xml(DOCUMENT)

    def work(self, place):
        try:
            self.live(place)
        except BaseException as exc:
            self.failures.append(exc)
            raise

    def run(self, seconds):
        """For so long, but one life of each at least."""
        self.end = time.monotonic() + seconds
        threads = [threading.Thread(target=self.work, args=(n,)) for n in range(INTERPRETERS)]
        for thread in threads:
            thread.start()
        chance = random.Random(self.seed)
        model = frozenops.sample()
        while any(thread.is_alive() for thread in threads):
            more = atoll.freeze({"n": chance.random(), "old": self.graph, "own": model})
            assert frozenops.same(atoll.thaw(more)["old"], model)
            assert self.graph.pins <= INTERPRETERS
            with self.lock:
                self.graphs += 1
            del more
            chance.choice(threads).join(0.2)
        for thread in threads:
            thread.join()
        assert frozenops.same(atoll.thaw(self.graph), model)


def main(seconds, seed):
    faulthandler.dump_traceback_later(2 * seconds + 140, exit=True)
    hammer = Hammer(seed)
    hammer.run(0)  # so much memory is taken in any case
    kib = (lambda: 0) if UNDER_ASAN else rss_kib  # which keeps freed memory
    before, first = kib(), hammer.lives
    hammer.run(seconds)
    assert not hammer.failures, hammer.failures
    lives, graphs = hammer.lives, hammer.graphs
    del hammer
    gc.collect()
    print(atoll.frozen_stats())
    print(lives, graphs, lives - first, kib() - before)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
