"""A dictionary of 100,000s of words, once in memory, for all workers.

    python examples/spell_checker.py

The words are those of the standard library's sources, with their usual endings (and
of /usr/share/dict/words, if it is there), each with how often it was seen. They are
frozen once; every worker opens the same memory. Texts with slips of the pen in them
are checked in parallel, by interpreters and, for comparison, by processes, each of
which needs a dictionary of its own.
"""

import collections
import multiprocessing
import os
import random
import re
import sysconfig
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import atoll

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ENDINGS = ["", "s", "ed", "ing", "er", "ly"]


# --------------------------------------------------------------- in the workers


def suggestions(word, dictionary):
    """Known words that are one slip away, the commonest first."""
    halves = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    slips = {a + b[1:] for a, b in halves if b}
    slips |= {a + b[1] + b[0] + b[2:] for a, b in halves if len(b) > 1}
    slips |= {a + c + b[1:] for a, b in halves if b for c in LETTERS}
    slips |= {a + c + b for a, b in halves for c in LETTERS}
    known = [slip for slip in slips if slip in dictionary]
    return sorted(known, key=lambda slip: (-dictionary[slip], slip))


def check(dictionary, text):
    """What is misspelt in a text: {word: the best suggestion, or None}."""
    found = {}
    for word in re.findall("[a-z]{3,}", text):
        if word not in dictionary and word not in found:
            found[word] = next(iter(suggestions(word, dictionary)), None)
    return found


def check_frozen(words, text):
    return check(words.get(), text)  # the objects themselves, in a microsecond


def check_in_process(text):
    return check(DICTIONARY, text)


def load(dictionary):
    global DICTIONARY
    DICTIONARY = dictionary


# ---------------------------------------------------------------------- in main


def read_words():
    """How often each word occurs; and lines of prose."""
    seen, prose = collections.Counter(), []
    library = Path(sysconfig.get_path("stdlib"))
    for path in [*sorted(library.glob("*.py")), *sorted(library.glob("[a-rt-z]*/*.py"))]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        prose += re.findall(r"^ +([A-Z][a-z]+ [a-z ,']{50,})$", text, re.M)
        seen.update(re.findall("[a-z]{3,}", text.lower()))
    try:
        seen.update(Path("/usr/share/dict/words").read_text().lower().split())
    except OSError:
        pass
    return {w + ending: 0 for w in seen for ending in ENDINGS} | seen, prose


def with_slips(prose, chance):
    """Texts of 40 lines, with two letters exchanged here and there; and how often."""
    texts, slips = [], 0
    for _ in range(24):
        letters = list(" ".join(chance.sample(prose, 40)).lower())
        for _ in range(30):
            at = chance.randrange(len(letters) - 1)
            if letters[at].isalpha() and letters[at + 1].isalpha():
                letters[at], letters[at + 1] = letters[at + 1], letters[at]
                slips += 1
        texts.append("".join(letters))
    return texts, slips


def timed(function, *args):
    start = time.perf_counter()
    result = function(*args)
    return result, time.perf_counter() - start


def memory_of(pids):
    """Memory of processes in MB, what they share divided among them; or None."""
    try:
        rolls = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    except OSError:
        return None
    return sum(int(re.search(r"Pss: +(\d+)", roll)[1]) for roll in rolls) / 1000


def grown(before, after):
    return "" if before is None else f", {after - before:+.0f} MB"


def by_interpreters(words, texts, workers):
    before = memory_of([os.getpid()])
    with atoll.InterpreterPoolExecutor(workers) as pool:
        answers = list(pool.map(check_frozen, repeat(words), texts))
        return answers, grown(before, memory_of([os.getpid()]))


def by_processes(dictionary, texts, workers):
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, load, (dictionary,)) as pool:
        answers = list(pool.map(check_in_process, texts))
        pids = [child.pid for child in multiprocessing.active_children()]
        return answers, grown(0 if memory_of(pids) else None, memory_of(pids))


def main():
    workers = os.process_cpu_count()
    dictionary, prose = read_words()
    texts, slips = with_slips(prose, random.Random(1))
    words, seconds = timed(lambda: atoll.freeze(dictionary, name="words"))
    print(f"{len(dictionary):,} words, {words.nbytes / 1e6:.0f} MB, "
          f"frozen in {seconds:.2f} s")  # fmt: skip

    (answers, memory), seconds = timed(by_interpreters, words, texts, workers)
    print(f"{workers} interpreters: {seconds:.2f} s{memory}")
    (others, memory), seconds = timed(by_processes, dictionary, texts, workers)
    print(f"{workers} processes: {seconds:.2f} s{memory}")

    assert answers == others
    found = {word: best for answer in answers for word, best in answer.items()}
    print(f"{slips} slips in {len(texts)} texts; {len(found)} words are not known:")
    for word, best in sorted(found.items())[:: max(1, len(found) // 5)]:
        print(f"  {word}: {best or '?'}")


if __name__ == "__main__":
    main()
