"""atoll.trace: the timeline has what happened, and nothing else."""

import collections
import functools
import itertools
import json
import os
import signal
import subprocess
import threading
import time
import xml.etree.ElementTree as ElementTree

import atoll
import pytest
import tasks
from atoll._cli import report as _trace_report
from support import SLACK, STRESS, python_args


def load(path):
    return json.loads(path.read_text())


def of(data, phase, category):
    return [e for e in data["traceEvents"] if e["ph"] == phase and e.get("cat") == category]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "trace.json"


def test_tasks_are_on_the_threads_that_ran_them(file):
    with atoll.trace(file) as tracing:
        with atoll.InterpreterPoolExecutor(2, name="traced") as pool:
            assert list(pool.map(tasks.square, range(20))) == [n * n for n in range(20)]
    data = load(file)
    ran = of(data, "X", "task")
    assert [e["name"] for e in ran].count("square") == 20 or any(
        "square" in e["name"] for e in ran
    )
    submitted = {e["args"]["task"] for e in of(data, "i", "task")}
    assert {e["args"]["task"] for e in ran} <= submitted
    names = {
        e["tid"]: e["args"]["name"] for e in data["traceEvents"] if e["name"] == "thread_name"
    }
    assert {names[e["tid"]].split()[0] for e in ran} == {"interpreter"}
    assert all("traced" in names[e["tid"]] for e in ran)
    assert names[os.getpid()] == "main"
    assert tracing.lost == 0
    assert tracing.written == sum(e["ph"] in "Xi" for e in data["traceEvents"])


def test_arrows_lead_from_submit_to_task(file):
    with atoll.trace(file), atoll.InterpreterPoolExecutor(1) as pool:
        pool.submit(tasks.square, 3).result(SLACK)
    data = load(file)
    (start,), (finish,) = of(data, "s", "task"), of(data, "f", "task")
    assert start["id"] == finish["id"]
    assert start["ts"] <= finish["ts"]
    assert start["tid"] != finish["tid"]


def test_a_task_that_raises_is_marked(file):
    with atoll.trace(file), atoll.InterpreterPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result(SLACK)
        assert pool.submit(divmod, 7, 2).result(SLACK) == (3, 1)
    assert [e["args"]["failed"] for e in of(load(file), "X", "task")] == [True, False]


def test_they_have_the_names_of_what_the_user_wrote(file):
    """And not those of what atoll calls it by."""
    with atoll.trace(file), atoll.InterpreterPoolExecutor(1) as pool:
        with atoll.pipeline(range(3), tasks.square, (lambda n: n + 1, 2)) as results:
            assert list(results) == [1, 2, 5]
        assert list(pool.map(abs, range(4), chunksize=2)) == [0, 1, 2, 3]
        assert pool.submit(functools.partial(pow, 2), 3).result(SLACK) == 8
    names = collections.Counter(e["name"][:20] for e in of(load(file), "X", "task"))
    mine = "test_they_have_the_names_of_what_the_user_wrote"[:20]  # that of the lambda
    assert names == {"square": 1, mine: 2, "abs": 2, "pow": 1}


def test_waits_and_messages(file):
    queue = atoll.create_queue()
    recv, send = atoll.create_channel(1)
    with atoll.trace(file):
        timer = threading.Timer(0.05, queue.put, ("late",))
        timer.start()
        assert queue.get() == "late"
        timer.join()
        send.send(1)
        assert atoll.select(recv) == (0, 1)
        with pytest.raises(atoll.QueueEmpty):
            queue.get_nowait()
    data = load(file)
    (wait,) = [e for e in of(data, "X", "wait") if "get from queue" in e["name"]]
    assert wait["dur"] >= 0.04e6
    names = [e["name"].rsplit(" ", 1)[0] for e in of(data, "i", "message")]
    assert sorted(names) == [
        "receive: channel",
        "receive: queue",
        "send: channel",
        "send: queue",
    ]


def test_without_messages(file):
    queue = atoll.create_queue()
    with atoll.trace(file, messages=False):
        queue.put(1)
        queue.get()
    assert not of(load(file), "i", "message")


def test_nothing_is_logged_before_and_after(file):
    queue = atoll.create_queue()
    queue.put(1)
    with atoll.trace(file) as tracing:
        pass
    queue.get()
    assert tracing.stop() == 0
    assert not of(load(file), "i", "message")


def test_what_there_is_no_room_for_is_counted(file, capsys):
    queue = atoll.create_queue()
    with atoll.trace(file, limit=600) as tracing:
        for n in range(2000):
            queue.put(n)
    assert tracing.written == 511
    assert tracing.lost == 2000 - 511
    assert load(file)["otherData"]["lost"] == tracing.lost
    assert "1489 events were not logged" in capsys.readouterr().err


def test_one_at_a_time(file, tmp_path):
    with atoll.trace(file), pytest.raises(RuntimeError, match="traced already"):
        atoll.trace(tmp_path / "other.json")
    with atoll.trace(file):
        pass


def test_bad_arguments(tmp_path):
    with pytest.raises(FileNotFoundError):
        atoll.trace(tmp_path / "no" / "such.json")
    for limit in (0, -1, 1.5):
        with pytest.raises(ValueError, match="limit"):
            atoll.trace(tmp_path / "x.json", limit=limit)
    atoll.trace(tmp_path / "x.json").stop()


def test_threads_that_end_and_interpreters_that_are_closed_stay_in_it(file):
    queue = atoll.create_queue()
    with atoll.trace(file):
        for n in range(5):
            thread = threading.Thread(target=queue.put, args=(n,))
            thread.start()
            thread.join()
        with atoll.create(name="short-lived") as interp:
            interp.exec("import atoll; 1 + 1")
    data = load(file)
    assert len(of(data, "i", "message")) == 5
    names = [e["args"].get("name", "") for e in data["traceEvents"] if "args" in e]
    assert any("short-lived" in name for name in names)


def test_begin_and_end_while_others_log(file):
    """Logs change hands while their threads write."""
    queue, stop = atoll.create_queue(), threading.Event()

    def work():
        while not stop.is_set():
            queue.put(None)
            queue.get()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    with atoll.create() as interp:
        busy = interp.call_in_thread(tasks.churn, queue, 4_000 * STRESS)
        for _ in range(25 * STRESS):
            with atoll.trace(file, limit=5000):
                time.sleep(0.001)
        data = load(file)
        stop.set()
        for thread in (*threads, busy):
            thread.join()
    for event in of(data, "i", "message"):
        assert event["name"].split()[0] in ("send:", "receive:")


def test_in_the_environment(tmp_path):
    path = tmp_path / "env.json"
    code = (
        "import atoll; q = atoll.create_queue(); q.put(1); atoll.create().exec('import atoll')"
    )
    env = {**os.environ, "ATOLL_TRACE": str(path)}
    subprocess.run([*python_args("-c", code)], env=env, check=True, timeout=SLACK)
    assert len(of(load(path), "i", "message")) == 1
    env["ATOLL_TRACE"] = str(tmp_path / "no" / "such.json")
    done = subprocess.run(
        [*python_args("-c", "import atoll; print('fine')")],
        env=env,
        check=True,
        timeout=SLACK,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "fine\n"
    assert "ATOLL_TRACE=" in done.stderr


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_is_not_traced(file):
    with atoll.trace(file) as tracing:
        queue = atoll.create_queue()
        queue.put(1)
        pid = os.fork()
        if pid == 0:
            atoll.create_queue().put(2)
            os._exit(atoll._core._trace_stop()[1] != [])
        assert os.waitpid(pid, 0)[1] == 0
    assert tracing.written == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_the_end_of_a_forked_child_leaves_the_file_alone(file):
    """Also if a thread of the parent's is writing it at the fork."""
    tracing = atoll.trace(file)
    atoll.create_queue().put(1)
    with tracing._lock:
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)
            os._exit(tracing.stop())
    assert tracing.stop() == 1
    data = load(file)
    assert os.waitpid(pid, 0)[1] == 0
    assert load(file) == data


# --------------------------------------------------------------- command line, picture


def atoll_command(*args, **kwargs):
    return subprocess.run(
        [*python_args("-m", "atoll"), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=SLACK,
        **kwargs,
    )


def test_run_and_report(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import atoll, sys, neighbour\n"
        "with atoll.InterpreterPoolExecutor(2) as pool:\n"
        "    print(sys.argv[1:], sum(pool.map(neighbour.cube, range(10))), __name__)\n"
    )
    (tmp_path / "neighbour.py").write_text("def cube(n):\n    return n ** 3\n")
    trace = tmp_path / "t.json"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = atoll_command("run", "-o", trace, script, "-x", "--deep", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['-x', '--deep'] 2025 __main__\n"
    assert f"events in {trace}" in done.stderr
    done = atoll_command("trace", "report", trace)
    assert done.returncode == 0, done.stderr
    assert "cube" in done.stdout
    svg = ElementTree.parse(tmp_path / "t.svg").getroot()
    bars = svg.findall(".//{http://www.w3.org/2000/svg}rect/{http://www.w3.org/2000/svg}title")
    assert sum(bar.text.startswith("cube") for bar in bars) >= 1


def test_run_says_what_is_wrong(tmp_path):
    done = atoll_command("run", tmp_path / "none.py")
    assert done.returncode == 2
    assert "no such script" in done.stderr
    script = tmp_path / "fails.py"
    script.write_text("raise SystemExit(3)")
    done = atoll_command("run", "-o", tmp_path / "t.json", script)
    assert done.returncode == 3
    assert (tmp_path / "t.json").exists()
    done = atoll_command("run", "-o", tmp_path / "no" / "t.json", script)
    assert done.returncode == 2
    assert "cannot write" in done.stderr


FAILING = {
    "deep": "import neighbour\ndef f():\n    neighbour.fail(0)\nf()\n",
    "chained": "import neighbour\ntry:\n    neighbour.fail(0)\nexcept Exception:\n    1 / 0\n",
    "no Python": "print(1\nx = = 2\n",
    "a hook": "import sys, traceback\n"
    "sys.excepthook = lambda *all: traceback.print_exception(all[1], file=sys.stderr)\n"
    "raise ExceptionGroup('two', [ValueError(1), ValueError(2)])\n",
    "interrupted": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n",
}


@pytest.mark.parametrize("kind", FAILING)
def test_run_shows_what_python_would(kind, tmp_path):
    script = tmp_path / "fails.py"
    script.write_text(FAILING[kind])
    (tmp_path / "neighbour.py").write_text("def fail(n):\n    return 1 // n\n")
    alone = subprocess.run(
        python_args(str(script)), capture_output=True, text=True, timeout=SLACK, check=False
    )
    done = atoll_command("run", "-o", tmp_path / "t.json", script)
    said, _, shown = done.stderr.partition("\n")
    assert said.startswith("atoll run: ")
    assert (done.returncode, shown) == (alone.returncode, alone.stderr)
    assert alone.returncode


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"traceEvents": [1]}', "not json"])
def test_report_of_something_else(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    done = atoll_command("trace", "report", path)
    assert done.returncode == 2
    assert "not a trace of atoll's" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_long_trace_is_a_small_picture(tmp_path):
    track = _trace_report.Track("main", 1)
    track.tasks = [(n * 10.0, n * 10.0 + 9, "t", False) for n in range(100_000)]
    track.waits = [(n * 10.0 + 9, n * 10.0 + 10, "w") for n in range(100_000)]
    track.messages = [n * 1.0 for n in range(1_000_000)]
    path = tmp_path / "long.svg"
    with path.open("w") as file:
        _trace_report.write_svg(_trace_report.Timeline([track], 1e6, {}), file)
    assert path.stat().st_size < 1_500_000
    ElementTree.parse(path)


def draw(path, *tracks):
    """The picture of these tracks: the words in it, and the colours beside them."""
    with path.open("w") as file:
        _trace_report.write_svg(_trace_report.Timeline(list(tracks), 1e6, {}), file)
    svg = "{http://www.w3.org/2000/svg}"
    root = ElementTree.parse(path).getroot()
    height = int(root.get("viewBox").split()[3])
    words = {}
    for mark, text in itertools.pairwise(root):
        if mark.tag == f"{svg}path" and text.get("text-anchor") is None:
            x, y = int(text.get("x")), int(text.get("y"))
            assert mark.get("d").startswith(f"M{x - 13} ")
            assert 0 < x < x + 7 * len(text.text) <= 1200 and 0 < y <= height - 6
            words[text.text] = mark.get("stroke")
    bars = {bar[0].text.split(":")[0]: bar.get("fill") for bar in root if len(bar)}
    return words, bars


def test_a_legend_says_what_the_colours_mean(tmp_path):
    track = _trace_report.Track("main", 1)
    track.tasks = [(n * 10.0, n * 11.0 + 9, f"task {n}", False) for n in range(5)]
    words, bars = draw(tmp_path / "t.svg", track)
    assert words == bars and len(set(words.values())) == 5
    # Most of the time is that of the first; what there is only one of has no other name.
    track.tasks += [(n * 10.0, n * 10.0 + 1, f"short {n}", n == 12) for n in range(5, 20)]
    track.waits, track.messages = [(1.0, 2.0, "w")], [5.0]
    words, bars = draw(tmp_path / "t.svg", track, _trace_report.Track("idle", 2))
    assert {name: words[name] for name in words if name.startswith("task")} == {
        f"task {n}": bars[f"task {n}"] for n in range(5)
    }
    assert words["13 other tasks"] == bars["short 19"]
    assert words["a task that failed"] == bars["short 12 (failed)"]
    assert words["the thread waits"] == bars["w"]
    assert "messages sent and received" in words
    assert len(set(words.values())) == len(words)
    assert draw(tmp_path / "t.svg", _trace_report.Track("idle", 1))[0] == {}


def test_an_empty_trace_is_a_picture_too(file, tmp_path):
    with atoll.trace(file):
        pass
    assert atoll_command("trace", "report", file, "-o", tmp_path / "x.svg").returncode == 0
    ElementTree.parse(tmp_path / "x.svg")
