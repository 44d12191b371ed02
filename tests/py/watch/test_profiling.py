"""The standard library's profilers, in two workers at once: each sees its own."""

import sys

import atoll
import pytest


def grind_coffee():
    return sum(k * k for k in range(500))


def knead_dough():
    dough = 0
    for k in range(500):
        dough ^= k
    return dough


WORKS = (grind_coffee, knead_dough)


def cprofile(work):
    import cProfile
    import io
    import pstats

    with cProfile.Profile() as profile:
        for _ in range(7):
            work()
    text = io.StringIO()
    pstats.Stats(profile, stream=text).print_stats()
    return text.getvalue()


def monitoring(work):
    import sys

    seen = []
    events = sys.monitoring.events.PY_START
    tool = sys.monitoring.PROFILER_ID
    sys.monitoring.use_tool_id(tool, "the test")
    try:
        sys.monitoring.register_callback(
            tool, events, lambda code, offset: seen.append(code.co_name)
        )
        sys.monitoring.set_events(tool, events)
        work()
        sys.monitoring.set_events(tool, 0)
    finally:
        sys.monitoring.free_tool_id(tool)
    return " ".join(seen)


def setprofile(work):
    import sys

    seen = []
    sys.setprofile(lambda frame, event, arg: seen.append(frame.f_code.co_name))
    try:
        work()
    finally:
        sys.setprofile(None)
    return " ".join(seen)


def settrace(work):
    import sys

    seen = []
    sys.settrace(lambda frame, event, arg: seen.append(frame.f_code.co_name))
    try:
        work()
    finally:
        sys.settrace(None)
    return " ".join(seen)


@pytest.mark.parametrize("tool", [cprofile, monitoring, setprofile, settrace])
def test_in_two_workers(tool):
    both = atoll.Barrier(2)

    def run(work):
        both.wait()
        return tool(work)

    with atoll.InterpreterPoolExecutor(2) as pool:
        coffee, dough = [task.result() for task in [pool.submit(run, work) for work in WORKS]]
    assert "grind_coffee" in coffee and "knead_dough" not in coffee
    assert "knead_dough" in dough and "grind_coffee" not in dough


def test_stats_of_workers_are_added_up():
    def profiled(work):
        import cProfile

        with cProfile.Profile() as profile:
            work()
        profile.create_stats()
        return profile.stats

    import pstats

    class Stats:
        def __init__(self, stats):
            self.stats = stats

        def create_stats(self):
            pass

    with atoll.InterpreterPoolExecutor(2) as pool:
        total = pstats.Stats(*map(Stats, pool.map(profiled, [*WORKS, grind_coffee])))
    calls = {name: count for (_, _, name), (count, *_) in total.stats.items()}
    assert calls["grind_coffee"] == 2 and calls["knead_dough"] == 1


def test_main_is_not_seen():
    def seen():
        return monitoring(grind_coffee)

    tool, event = sys.monitoring.DEBUGGER_ID, sys.monitoring.events.PY_START
    names = []
    sys.monitoring.use_tool_id(tool, "main's")
    try:
        sys.monitoring.register_callback(
            tool, event, lambda code, _: names.append(code.co_name)
        )
        sys.monitoring.set_events(tool, event)
        with atoll.InterpreterPoolExecutor(1) as pool:
            assert "grind_coffee" in pool.submit(seen).result()
        sys.monitoring.set_events(tool, 0)
    finally:
        sys.monitoring.free_tool_id(tool)
    assert "submit" in names and "grind_coffee" not in names
