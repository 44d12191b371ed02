"""What the machine gave: figures of a busy one are not shown as if they were of atoll."""

import importlib.util
import io
import json
import subprocess
import time
from pathlib import Path

import pytest
from atoll._cli import bench, load
from atoll._cli.load import Moment, Share
from support import python_args, until

EXAMPLES = Path(__file__).parents[3] / "examples"


def share(others=0.0, stolen=0.0, cores=2, limit=None, seconds=10.0, own=1.0):
    return Share(seconds, own, others, stolen, cores, limit)


@pytest.mark.parametrize(
    "found, workers, said",
    [
        (share(), 2, None),
        (share(), 8, None),  # more workers than cores
        (share(others=1.5), 2, None),  # somebody moves a mouse
        (share(others=10.0), 1, None),  # there is another core
        (share(others=40.0, cores=8), 4, None),
        (share(others=8.0), 2, "1.2 of the 2 cores that it needed (other processes took 0.8)"),
        (
            share(others=12.0, stolen=4.0),
            1,
            "0.4 of the 1 core that it needed (other processes took 1.2, the host took 0.4)",
        ),
        (
            share(cores=8, limit=1.5),
            4,
            "1.5 of the 4 cores that it needed (the limit of its control group is 1.5)",
        ),
        (share(cores=8, limit=1.5), 1, None),
        (share(seconds=5.0, others=4.0) + share(seconds=5.0), 2, "1.6 of the 2 cores"),
        (share(seconds=0.0), 2, None),
    ],
)
def test_what_was_lacking(found, workers, said):
    lack = found.lack(workers)
    assert lack == said or (said and lack.startswith(said))


def test_slower_cores():
    assert share(own=14.5).slower(share(own=10.0)) == 1.45
    assert share(own=11.0).slower(share(own=10.0)) is None
    assert share(own=1.0).slower(share(own=0.0)) is None


def test_it_sees_who_computes():
    """This process, a child of it, and the child's when it has ended."""
    first, began = load.look(), time.process_time()
    while time.process_time() - began < 0.1:
        pass
    mine = load.between(first, load.look())
    assert 0.05 < mine.own <= mine.seconds + 0.02
    code = "import time\nwhile time.process_time() < 0.15: pass\nprint(flush=True); input()"
    first = load.look()
    with subprocess.Popen(
        python_args("-c", code), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        alive = load.between(first, load.look())
        child.communicate(b"\n")
    ended = load.between(first, load.look())
    assert 0.12 < alive.own <= ended.own + 0.02
    assert alive.seconds <= ended.seconds
    # The kernel writes it down at its next tick.
    until(lambda: load.look().busy >= first.busy + 0.1)


def test_what_proc_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(load.os, "sched_getaffinity", lambda pid: {0, 2})
    (tmp_path / "proc").mkdir()
    stat = tmp_path / "proc" / "stat"
    stat.write_text(
        "cpu 9 9 9 9 9 9 9 9 0 0\n"
        "cpu0 100 20 3 4000 500 6 7 800 0 0\n"
        "cpu1 999 999 999 999 999 999 999 999 0 0\n"
        "cpu2 10 0 0 400 50 0 0 0 0 0\n"
        "intr 1 2 3\n"
    )
    moment = load.look(str(tmp_path))
    assert moment.busy == pytest.approx(1.46)
    assert moment.stolen == 8.0
    later = Moment(moment.time + 4, moment.own + 3, moment.busy + 5, moment.stolen + 1)
    found = load.between(moment, later)
    assert (found.own, found.others, found.stolen, found.cores) == pytest.approx((3, 2, 1, 2))


@pytest.mark.parametrize(
    "groups, files, cpus",
    [
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, 0.5),
        ("0::/a/b\n", {}, None),
        (
            "4:memory:/x\n3:cpu,cpuacct:/x\n0::/\n",
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/x/cpu.cfs_quota_us": "250000",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000",
            },
            2.5,
        ),
        ("", {}, None),
    ],
)
def test_limits_of_control_groups(groups, files, cpus, tmp_path):
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n" if text and not text.endswith("\n") else text)
    assert load.limit(str(tmp_path)) == cpus


# ------------------------------------------------------------- what is said of it


class Machine:
    """Looks at a machine of two cores that others use to a part of `others` cores."""

    def __init__(self, others, slower=1.0):
        self.now = self.own = self.busy = 0.0
        self.others, self.slower, self.looks = others, slower, 0

    def __call__(self):
        self.now += 1
        self.own += self.slower if self.looks % 3 == 2 else 1.0
        self.busy = self.own + self.others * self.now
        self.looks += 1
        return Moment(self.now, self.own, self.busy, 0.0)


@pytest.fixture
def quick_bench(monkeypatch):
    """Of the speed-up alone, and of atoll."""
    make = bench._contenders(2)["atoll"]
    monkeypatch.setattr(bench, "_contenders", lambda workers: {"atoll": make})
    monkeypatch.setattr(bench, "_ROWS", ())
    monkeypatch.setattr(bench, "_PIECES", 1)
    monkeypatch.setattr(load.os, "sched_getaffinity", lambda pid: {0, 1})

    def run(machine, as_json=False):
        monkeypatch.setattr(bench, "look", machine)
        file = io.StringIO()
        assert bench.run(2, 1, as_json, file) == 0
        return file.getvalue()

    return run


def test_a_bench_of_a_busy_machine(quick_bench):
    text = quick_bench(Machine(others=1.2))
    (row,) = [line for line in text.splitlines() if line.startswith("pure Python")]
    assert row.split()[-2:] == ["×", "–"]
    assert "others took 1.2 of its 2 cores" in text
    assert "atoll: 0.8 of the 2 cores that it needed (other processes took 1.2)" in text
    report = json.loads(quick_bench(Machine(others=1.2), as_json=True))
    assert report["rows"][-1]["lack"].keys() == {"atoll"}
    assert report["rows"][-1]["values"]["atoll"] > 0
    assert report["cpu"]["others"] / report["cpu"]["seconds"] == pytest.approx(1.2)


def test_a_bench_of_a_machine_that_is_free(quick_bench):
    text = quick_bench(Machine(others=0.05))
    (row,) = [line for line in text.splitlines() if line.startswith("pure Python")]
    assert row.split()[-2:] == ["×", "1.00"]
    assert "cores that it needed" not in text and "busy" not in text and "slower" not in text


def test_a_bench_of_half_cores(quick_bench):
    """Hyper-threads, or a host that does not say what it takes."""
    machine = Machine(others=0.0, slower=1.7)
    machine.looks = 2  # after the first, the second look of three ends what is alone
    text = quick_bench(machine)
    assert "slower when all of them work" in text and "(atoll 1.7 ×)" in text


def test_a_demo_on_a_busy_machine(monkeypatch):
    pytest.importorskip("rich")
    from rich.console import Console

    monkeypatch.syspath_prepend(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location("demo_of_load", EXAMPLES / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    tally = demo.ways.Tally()

    def table(**others):
        outcomes = {
            way: demo.Outcome(tally, seconds, 0, share(others.get(way, 0.0)))
            for way, seconds in (("serially", 4.0), ("threads", 4.0), ("atoll", 6.56))
        }
        lacking = demo.lacks(outcomes, 2)
        console = Console(file=io.StringIO(), width=100)
        console.print(demo.job_table(outcomes, lacking))
        return console.file.getvalue(), lacking

    text, lacking = table()
    assert "0.61 ×" in text and "–" not in text and not lacking
    text, lacking = table(atoll=9.0, threads=9.0)
    assert "0.61" not in text and text.count("–") == 1
    assert lacking == {
        "atoll": "1.1 of the 2 cores that it needed (other processes took 0.9)"
    }
    text, lacking = table(serially=15.0)
    assert text.count("–") == 3 and lacking.keys() == {"serially"}
