"""What an interpreter has for itself, and how the standard library fares in it."""

import os
import sys
import threading
import time

import atoll
import pytest
import workers
from support import STRESS, Task, check_python


def test_module_state_is_not_shared(interp):
    interp.exec("import json, sys; json.marker = 1; sys.marker = 2")
    import json

    assert not hasattr(json, "marker")
    assert not hasattr(sys, "marker")
    with atoll.create() as other:
        other.exec("import json; assert not hasattr(json, 'marker')")
    workers.marker = "main's"
    try:
        interp.exec("import workers; assert not hasattr(workers, 'marker')")
    finally:
        del workers.marker


def test_environment_is_the_process_s(interp):
    interp.exec("import os; os.environ['ATOLL_TEST'] = 'x'; pid = os.getpid()")
    assert interp.call(os.getpid) == os.getpid()


def test_objects_are_not_shared(interp):
    box = [1]
    interp.prepare_main(box=box)
    interp.exec("box.append(2)")
    assert box == [1]


@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="needs two processors"
)
@pytest.mark.alone
def test_interpreters_run_in_parallel():
    """Two at once use more than one core: with one GIL that is impossible."""

    def cores_used(interps, count):
        begin, cpu = time.perf_counter(), time.process_time()
        tasks = [Task(i.call, workers.count_to, count) for i in interps]
        for task in tasks:
            task.result(60)
        return (time.process_time() - cpu) / (time.perf_counter() - begin)

    with atoll.create() as a, atoll.create() as b:
        best = 0.0
        for _ in range(20):  # the machine may have other things to do
            best = max(best, cores_used([a, b], 3_000_000))
            if best > 1.3:
                break
    assert best > 1.3


def test_an_interpreter_does_not_stop_others(interp):
    """A long call without a pause leaves this interpreter's threads running."""
    task = Task(interp.call, workers.spin, 0.3)
    counted = 0
    while task.is_alive():
        counted += 1
    task.result()
    assert counted > 1000


def test_home_thread_is_the_main_thread_there(interp):
    interp.exec(
        """
import threading
assert threading.current_thread() is threading.main_thread()
assert threading.current_thread().name == "MainThread"
assert threading.enumerate() == [threading.main_thread()]
assert threading.get_ident() == threading.main_thread().ident
ident = threading.get_ident()
"""
    )
    # Always the same thread, and none of ours.
    interp.exec("assert threading.get_ident() == ident")
    assert interp.call(threading.get_ident) not in [
        thread.ident for thread in threading.enumerate()
    ]


def test_threads(interp):
    interp.exec(
        """
import threading
results, local = [], threading.local()
def work(n):
    local.n = n
    results.append(local.n)
threads = [threading.Thread(target=work, args=(n,)) for n in range(10)]
for t in threads: t.start()
for t in threads: t.join()
assert sorted(results) == list(range(10)) and not hasattr(local, "n")
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(3) as pool:
    assert list(pool.map(lambda n: n * n, range(20))) == [n * n for n in range(20)]
"""
    )


def test_asyncio(interp):
    interp.exec(
        """
import asyncio
async def child(n):
    await asyncio.sleep(0.001)
    return n * 2
async def main():
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(child(n)) for n in range(5)]
    assert await asyncio.to_thread(lambda: 7) == 7
    reader, writer = await asyncio.wait_for(connect(), 5)
    writer.close()
    return [t.result() for t in tasks]
async def connect():
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    return await asyncio.open_connection(*server.sockets[0].getsockname())
result = asyncio.run(main())
assert result == [0, 2, 4, 6, 8], result
assert asyncio.run(main()) == result
"""
    )


def test_logging():
    out = check_python(
        """
        import atoll, sys
        with atoll.create() as interp:
            interp.exec(
                "import logging, sys\\n"
                "format = '%(threadName)s %(message)s'\\n"
                "logging.basicConfig(stream=sys.stdout, format=format)\\n"
                "logging.warning('from there')"
            )
        import logging
        assert not logging.getLogger().handlers
        """
    )
    assert out == "MainThread from there"


def test_signal_module(interp):
    interp.exec(
        """
import signal
assert signal.Signals(2).name == "SIGINT"
signal.getsignal(signal.SIGINT)
try:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
except ValueError as exc:
    assert "main thread of the main interpreter" in str(exc), exc
else:
    raise AssertionError("it was allowed")
"""
    )


MODULES = """
sqlite3 datetime zoneinfo decimal json csv struct hashlib ssl socket select
subprocess tempfile shutil pathlib asyncio threading queue concurrent.futures
logging unittest typing dataclasses enum re ast inspect pickle copy random
statistics fractions itertools collections functools operator time calendar
email xml.etree.ElementTree html urllib.request http.client zlib bz2 lzma
ctypes multiprocessing array mmap unicodedata uuid secrets heapq bisect
""".split()


def test_modules_of_the_standard_library(interp):
    failed = []
    for name in MODULES:
        try:
            interp.exec(f"import {name}")
        except atoll.ExecutionFailed as exc:
            failed.append((name, exc.excinfo.formatted))
    assert not failed


def test_modules_work(interp):
    interp.exec(
        """
import datetime, decimal, hashlib, json, sqlite3, time, zoneinfo
with sqlite3.connect(":memory:") as db:
    db.execute("create table t (d date)")
    db.execute("insert into t values (?)", ("2024-02-29",))
    assert db.execute("select d from t").fetchone() == ("2024-02-29",)
db.close()
day = datetime.date(2024, 2, 29) + datetime.timedelta(days=1)
assert day.isoformat() == "2024-03-01"
now = datetime.datetime.now(zoneinfo.ZoneInfo("UTC"))
assert now.utcoffset() == datetime.timedelta(0)
assert time.strptime("2024", "%Y").tm_year == 2024
assert datetime.datetime.strptime("2024-01", "%Y-%m").month == 1
assert decimal.Decimal("0.1") * 3 == decimal.Decimal("0.3")
assert json.loads(json.dumps({"a": [1.5, None]})) == {"a": [1.5, None]}
assert len(hashlib.sha256(b"x").hexdigest()) == 64
"""
    )


def test_datetimes_arrive_as_datetimes(interp):
    import datetime

    for obj in (
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=datetime.UTC),
        datetime.time(1, 2),
        datetime.timedelta(1, 2, 3),
        datetime.timezone(datetime.timedelta(hours=2), "name"),
    ):
        assert interp.call(repr, obj) == repr(obj)
        got = interp.call(workers.give, obj)
        assert type(got) is type(obj)
        assert got == obj


def test_deep_recursion_is_an_error_there():
    """On a home thread, as on any other, and never a crash."""
    check_python(
        """
        import atoll
        interp = atoll.create()
        for source in (
            "def f(): f()\\nf()",
            "class A:\\n  def __repr__(self): return repr(self)\\nrepr(A())",
            "x = []\\nfor _ in range(500_000): x = [x]\\nrepr(x)",
            "import json\\nx = []\\nfor _ in range(500_000): x = [x]\\njson.dumps(x)",
            "eval('(' * 150 + ')' * 150)",
            "import sys; sys.setrecursionlimit(10**6)\\n"
            "class A:\\n  def __add__(self, o): return self + o\\nA() + 1",
        ):
            try:
                interp.exec(source)
            except atoll.ExecutionFailed as exc:
                kind = exc.excinfo.type.__name__
                assert kind in ("RecursionError", "SyntaxError", "MemoryError"), exc
            else:
                assert "eval" in source, source
        interp.exec("x = 1")
        print("survived", flush=True)
        import os
        os._exit(0)
        """,
        timeout=60,
    )


def test_a_thousand_jobs(interp):
    interp.exec("n = 0")
    for _ in range(1000 * STRESS):
        interp.exec("n += 1")
    interp.exec(f"assert n == {1000 * STRESS}")


def test_making_one_imports_nothing_large(interp):
    interp.exec(
        "import sys\n"
        "for name in ('threading', 'queue', 'pickle', 'collections', 're',\n"
        "             'cloudpickle', 'traceback', 'dataclasses', 'typing'):\n"
        "    assert name not in sys.modules, name"
    )
