"""The jobs: real ones, importable by name in every process and interpreter."""

import os
import pathlib
import re
import sysconfig

import atoll


def sources(count):
    """So many modules of the standard library, always the same."""
    folder = pathlib.Path(sysconfig.get_path("stdlib"))
    return sorted(str(path) for path in folder.glob("*.py"))[:count]


def words(path):
    return re.findall(r"\w+", pathlib.Path(path).read_text(errors="replace"))


def count_words(count=60):
    """A bag: the most frequent words in them."""
    from dask import bag

    found = bag.from_sequence(sources(count), npartitions=8).map(words).flatten()
    return found.frequencies().topk(20, key=rank)


def rank(item):
    return item[1], item[0]


def spectrum():
    """An array: singular values and a standard deviation, in chunks."""
    from dask import array

    a = array.random.default_rng(1).normal(size=(2000, 50), chunks=(250, 50))
    _, singular, _ = array.linalg.svd(a)
    return array.concatenate([singular, (a.T @ a).std(axis=0)])


def where(_):
    """The process and the interpreter, after some work: so no one can do it all."""
    sum(range(200_000))
    return os.getpid(), atoll.get_current().id


def fail(text):
    raise LookupError(text)


def find_worker(_):
    """Only in main is there a worker."""
    import distributed

    try:
        distributed.get_worker()
    except ValueError as error:
        return str(error)


def work_in_a_client(_):
    import distributed

    with distributed.worker_client():
        pass


class Tally:
    """An actor."""

    def __init__(self):
        self.total = 0

    def add(self, n):
        self.total += n
        return self.total, atoll.get_current().id
