"""Modules that start interpreters when they are imported: in main they may, in an
interpreter of atoll's they are refused, since each would start others without end."""

import importlib
import subprocess
import sys
import traceback

import atoll
import pytest
import workers
from support import (
    SLACK,
    count_threads,
    python_args,
    python_env,
    run_python,
)

HEAD = """
import atoll
HERE = __name__
def work(x=1): return x + 1
class Thing: pass
"""

#: What a module does at its top level. In main all is well until an interpreter
#: imports the same module.
FLOODS = {
    "submit": "pool.submit(work, 1).result()",
    "submit_with": "pool.submit_with(work, (1,)).result()",
    "map": "list(pool.map(work, range(3)))",
    "map in chunks": "list(pool.map(work, range(9), chunksize=3))",
    "an argument's class": "pool.submit(id, Thing()).result()",
    "a function by value": "pool.submit(lambda: __import__(HERE)).result()",
    "with": "with atoll.InterpreterPoolExecutor(2) as p: p.submit(work, 1).result()",
    "initializer": """
p = atoll.InterpreterPoolExecutor(1, initializer=work)
p.submit(abs, -1).result()""",
    "preload": """
p = atoll.InterpreterPoolExecutor(1, preload=[HERE])
p.submit(abs, -1).result()""",
    "create with preload": "atoll.create(preload=[HERE])",
    "call": "with atoll.create() as i: i.call(work, 1)",
    "exec": "with atoll.create() as i: i.exec(f'import {HERE}')",
    "strict": "with atoll.create(extensions='strict') as i: i.call(work, 1)",
    "Interpreter.submit": "with atoll.create() as i: i.submit(work, 1).result()",
    "spawn": "atoll.spawn(work, 1).result()",
    "TaskGroup": "with atoll.TaskGroup() as group: group.spawn(work, 1)",
    "pipeline": "with atoll.pipeline(range(3), work) as p: list(p)",
    "warm": "atoll.warm(1); atoll.spawn(work, 1).result()",
    "asyncio": """
import asyncio
async def main(): return await pool.submit(work, 1)
asyncio.run(main())""",
    "a thread": """
import threading
def run():
    try: pool.submit(work, 1).result()
    except BaseException as exc: caught.append(exc)
caught = []
thread = threading.Thread(target=run)
thread.start()
thread.join()
if caught: raise caught[0]""",
    "a thread of a thread": """
import threading, _thread
def run():
    try: pool.submit(work, 1).result()
    except BaseException as exc: caught.append(exc)
    done.set()
def outer(): _thread.start_new_thread(run, ())
caught, done = [], threading.Event()
threading.Thread(target=outer).start()
done.wait()
if caught: raise caught[0]""",
}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """module(text): the name of a new module of that text."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def make(text, name=None, file=None):
        name = name or f"importing_{tmp_path.name}_{len(made)}".replace("-", "_")
        made.append(name)
        path = tmp_path / (file or f"{name}.py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEAD + text)
        importlib.invalidate_caches()
        return name

    yield make
    for name in made:
        sys.modules.pop(name, None)


POOL = "pool = atoll.InterpreterPoolExecutor(2)\n"


def text_of(exc):
    """All that it says, with its causes and members."""
    said, left = {}, [exc]
    while left:
        exc = left.pop()
        if exc is not None and id(exc) not in said:
            said[id(exc)] = str(exc)
            left += [exc.__cause__, exc.__context__, *getattr(exc, "exceptions", ())]
    return "\n".join(said.values())


def refused(name, line, text):
    return f"module {name!r} (" in text and f"{name}.py, line {line})" in text


@pytest.mark.parametrize("kind", FLOODS)
def test_the_first_interpreter_that_imports_it_is_refused(module, kind):
    """In whatever way the module does it, main is told, with its name and line."""
    body = FLOODS[kind].strip().split("\n")
    name = module(POOL + "\n".join(body) + "\n")
    threads = count_threads()
    with pytest.raises(Exception) as caught:
        importlib.import_module(name)
    text = text_of(caught.value)
    first = len((HEAD + POOL).split("\n"))
    assert any(refused(name, n, text) for n in range(first, first + len(body))), text
    assert "in functions only" in text
    assert count_threads() <= threads + 8
    for frame in traceback.walk_tb(caught.tb):
        if frame[0].f_globals.get("__name__") == name:
            frame[0].f_globals["pool"].shutdown()
            break
    else:
        pytest.fail("the module is not in the traceback")
    atoll.warm(0)


def test_joblib_s_workers_are_refused(tmp_path):
    """In a process of its own: with NumPy, CPython 3.13 does not let them end."""
    pytest.importorskip("joblib")
    (tmp_path / "jobs.py").write_text(
        HEAD
        + """
import atoll.joblib, joblib
atoll.joblib.register()
joblib.Parallel(2, backend="atoll")(joblib.delayed(work)(i) for i in range(3))
"""
    )
    done = run_python("import jobs", cwd=tmp_path)
    assert done.returncode == 1
    assert refused("jobs", 9, done.stderr.splitlines()[-1])


def test_it_says_where(module):
    name = module("import string\n" + POOL + "\npool.submit(work, 1).result()\n")
    with pytest.raises(
        RuntimeError, match=r"\bstarts interpreters when it is imported"
    ) as caught:
        importlib.import_module(name)
    assert refused(name, 9, str(caught.value)), caught.value


@pytest.mark.parametrize("how", ["task", "exec", "call", "second level", "initializer"])
def test_also_when_code_that_runs_there_imports_it(module, how):
    """Not only what arrives: main has not imported the module at all."""
    name = module("with atoll.create() as other: other.exec('pass')\n")
    code = f"import {name}"
    if how == "task":
        with atoll.InterpreterPoolExecutor(1) as pool:
            with pytest.raises(RuntimeError) as caught:
                pool.submit(workers.run_code, code).result(SLACK)
    elif how == "second level":
        with atoll.InterpreterPoolExecutor(1) as pool, pytest.raises(RuntimeError) as caught:
            pool.submit(workers.in_another, code).result(SLACK)
    elif how == "initializer":
        with atoll.InterpreterPoolExecutor(
            1, initializer=workers.run_code, initargs=(code,)
        ) as pool:
            with pytest.raises(atoll.BrokenInterpreterPool) as caught:
                pool.submit(abs, -1).result(SLACK)
    else:
        with atoll.create() as interp, pytest.raises(atoll.ExecutionFailed) as caught:
            interp.exec(code) if how == "exec" else interp.call(workers.run_code, code)
    assert refused(name, 6, text_of(caught.value)), text_of(caught.value)
    with atoll.create():  # main may
        importlib.import_module(name)


def test_a_package_and_its_parts(module):
    package = module(
        POOL + "pool.submit(work, 1).result()\n", "importing_pkg", "importing_pkg/__init__.py"
    )
    module("", "importing_pkg.part", "importing_pkg/part.py")
    with atoll.create() as interp, pytest.raises(atoll.ExecutionFailed) as caught:
        interp.exec("import importing_pkg.part")
    text = text_of(caught.value)
    assert f"module {package!r} (" in text
    assert "__init__.py, line 7)" in text


def test_what_is_loaded_from_a_file(module, tmp_path):
    name = module("atoll.create()\n")
    with atoll.create() as interp, pytest.raises(atoll.ExecutionFailed) as caught:
        interp.exec(f"""
import importlib.util
spec = importlib.util.spec_from_file_location({name!r}, {str(tmp_path / name) + ".py"!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)""")
    assert refused(name, 6, text_of(caught.value))


def test_an_import_that_has_its_own_loader():
    """There is no code of the module's, but there is a name."""
    with atoll.create() as interp, pytest.raises(atoll.ExecutionFailed) as caught:
        interp.exec("""
import sys, importlib.machinery
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "importing_made": return importlib.machinery.ModuleSpec(name, Finder)
    def create_module(spec): pass
    def exec_module(module):
        import atoll
        atoll.create()
sys.meta_path.insert(0, Finder)
import importing_made""")
    assert "module 'importing_made' (<script>, line 9)" in text_of(caught.value)


def test_a_thread_that_outlives_the_import(module):
    """It may start no interpreter later, either: every import would have one."""
    name = module("""
import threading
go, said = threading.Event(), []
def run():
    go.wait()
    try: atoll.create()
    except BaseException as exc: said.append(str(exc))
thread = threading.Thread(target=run)
thread.start()
def ask():
    go.set()
    thread.join()
    return said[0]
""")
    with atoll.create() as interp:
        interp.exec(f"import {name} as module")
        said = interp.call(workers.ask_module, name)
    assert "has started a thread" in said
    assert refused(name, 14, said), said


def test_threads_of_functions_may(interp):
    """Those that no import has started; and all keep their arguments and results."""
    interp.exec("""
import _thread, atoll, queue, threading
got = queue.Queue()
def run(*args, **kwargs):
    with atoll.create() as i: got.put((i.call(abs, -3), args, kwargs))
threading.Thread(target=run, args=(1,), kwargs={"a": 2}).start()
assert got.get() == (3, (1,), {"a": 2})
_thread.start_new_thread(run, (1,), {"a": 2})
assert got.get() == (3, (1,), {"a": 2})
handle = _thread.start_joinable_thread(function=lambda: run(4), daemon=False)
handle.join()
assert got.get() == (3, (4,), {})
for bad in (lambda: _thread.start_new_thread(3, ()), lambda: _thread.start_joinable_thread()):
    try: bad()
    except TypeError: pass
    else: raise AssertionError
""")


def test_a_pool_of_the_top_level_works_in_functions(module):
    """Made by every interpreter that imports the module, used where it is asked to."""
    name = module(
        POOL
        + """
interp = None
def nested(x):
    return list(pool.map(work, range(x)))
def chain(x):
    return pool.submit(nested, x).result()
"""
    )
    jobs = importlib.import_module(name)
    with jobs.pool:
        assert jobs.pool.submit(jobs.nested, 3).result(SLACK) == [1, 2, 3]
        assert jobs.pool.submit(jobs.chain, 2).result(SLACK) == [1, 2]


def test_what_an_import_may_do(module):
    """Everything but to start interpreters: also to catch the error."""
    name = module(
        POOL
        + """
import threading
queue = atoll.create_queue()
queue.put(work(1))
thread = threading.Thread(target=queue.put, args=(7,))
thread.start()
thread.join()
try: pool.submit(work, 1)
except RuntimeError as exc: said = str(exc)
else: said = ""
"""
    )
    with atoll.create() as interp:
        interp.exec(f"import {name} as m; a, b = m.queue.get(), m.queue.get()")
        interp.exec("assert (a, b) == (2, 7)")
        interp.exec("assert f'module {m.HERE!r} (' in m.said, m.said")


def test_what_makes_the_objects_of_a_call(module):
    """Code that runs while arguments are made does without an import."""
    name = module("""
class Worse:
    def __init__(self): self.x = 1
    def __getstate__(self): return {"x": 1}
    def __setstate__(self, state):
        with atoll.create() as i: i.call(id, self)
""")
    jobs = importlib.import_module(name)
    with atoll.InterpreterPoolExecutor(1) as pool:
        with pytest.raises(RuntimeError, match="makes the objects of a call") as caught:
            pool.submit(id, jobs.Worse()).result(SLACK)
    assert "Worse.__setstate__" in str(caught.value)
    assert "line 11)" in str(caught.value)


def test_there_is_an_end_to_nesting():
    """A function that has itself called in a new interpreter, which is no import."""
    with atoll.create() as interp, pytest.raises(atoll.ExecutionFailed) as caught:
        interp.call(workers.deeper, 1)
    text = text_of(caught.value)
    assert "16 deep" in text
    assert "deeper" in text
    with atoll.create() as interp:
        assert interp.call(workers.down, 6) == 6


def test_a_spare_is_as_deep_as_who_takes_it():
    atoll.warm(2)
    with atoll.create() as interp:
        assert interp.call(workers.down, 3) == 3
    atoll.warm(0)


def test_the_whole_program_ends(tmp_path):
    """Main's import fails, and so the program, with one error that helps."""
    (tmp_path / "floods.py").write_text(HEAD + POOL + "print(list(pool.map(work, range(3))))\n")
    (tmp_path / "floods_main.py").write_text("import floods\nprint('done')\n")
    for argv in (
        ["-c", "import floods"],
        [str(tmp_path / "floods_main.py")],
        ["-m", "floods_main"],
    ):
        done = subprocess.run(
            python_args(*argv),
            cwd=tmp_path,
            env=python_env(),
            timeout=SLACK,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.splitlines()[-1].startswith("RuntimeError: module 'floods' (")
    # The same file as the program itself: its functions go by value.
    done = subprocess.run(
        python_args("-m", "floods"),
        cwd=tmp_path,
        env=python_env(),
        timeout=SLACK,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1, 2, 3]\n", "")
