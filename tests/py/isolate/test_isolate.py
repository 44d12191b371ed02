"""Extension modules in private copies: what a module may do, and what it finds."""

import os
import re
import shutil
import subprocess
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor

import atoll
import pytest
from support import HERE, SLACK, check_python, run_python, until


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with the modules of probe.c: `probe` and `pkg.multi`."""
    folder = tmp_path_factory.mktemp("isolate") / "dist-packages"
    (folder / "pkg").mkdir(parents=True)
    (folder / "pkg" / "__init__.py").write_text("")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for name, macro in (("probe", "SINGLE"), ("pkg/multi", "MULTI")):
        subprocess.run(
            [
                "cc", "-shared", "-fPIC", "-g", "-pthread", f"-D{macro}",
                "-I", sysconfig.get_paths()["include"], f"{HERE}/probe.c",
                "-o", folder / f"{name}{suffix}",
            ],
            check=True,
        )
    return str(folder)


@pytest.fixture
def pair(place, monkeypatch):
    """Two interpreters that find the modules."""
    monkeypatch.syspath_prepend(place)
    made = [atoll.create(), atoll.create()]
    yield made
    for interp in made:
        try:
            interp.close(timeout=SLACK)
        except atoll.InterpreterNotFoundError:
            pass


def ask(interp, expression):
    queue = atoll.create_queue()
    interp.prepare_main(queue=queue)
    interp.exec(f"queue.put({expression})")
    return queue.get(timeout=SLACK)


MODULES = pytest.mark.parametrize("module", ["probe", "pkg.multi"])


@MODULES
def test_static_data_is_the_interpreters(pair, module):
    a, b = pair
    for interp in pair:
        interp.exec(f"import {module} as m")
    assert [ask(a, "m.count()") for _ in range(3)] == [2, 3, 4]
    assert ask(b, "m.count()") == 2
    first, second = ask(a, "m.address()"), ask(b, "m.address()")
    assert first[0] != second[0] and first[1] != second[1]


@MODULES
def test_looks_as_if_cpython_had_loaded_it(pair, module, place):
    interp, _ = pair
    interp.exec(f"import importlib, importlib.machinery, sys, {module} as m")
    assert ask(interp, "m.__name__") == ask(interp, "m.__spec__.name") == module
    assert ask(interp, "m.__file__").startswith(place)
    assert ask(interp, "m.__file__ == m.__spec__.origin == m.__loader__.path")
    assert ask(interp, "type(m.__loader__) is importlib.machinery.ExtensionFileLoader")
    assert ask(interp, "sys.modules[m.__name__] is m")
    assert ask(interp, "m.__package__") == module.rpartition(".")[0]
    interp.exec("was = m.count(); assert importlib.reload(m) is m")
    assert ask(interp, "m.count() == was + 1")


@MODULES
def test_imported_again(pair, module):
    """As in CPython: another module object with the same static data."""
    interp, _ = pair
    interp.exec(f"import sys, {module} as m; m.count(); m.extra = 1")
    interp.exec(f"del sys.modules[{module!r}]; import {module} as n")
    assert ask(interp, "n is not m and n.count() > 2 and not hasattr(n, 'extra')")
    assert ask(interp, "n.made") == (1 if module == "probe" else 3)


def test_found_without_a_finder(pair, place):
    """By importlib.util.spec_from_file_location, as tools do."""
    for interp in pair:
        interp.exec(f"""
import importlib.util, sysconfig
path = {place!r} + "/probe" + sysconfig.get_config_var("EXT_SUFFIX")
spec = importlib.util.spec_from_file_location("probe", path)
m = importlib.util.module_from_spec(spec)
spec.loader.exec_module(m)
""")
    assert [ask(interp, "m.count()") for interp in pair] == [2, 2]


@MODULES
def test_what_modules_ask_for(pair, module):
    for interp in pair:
        interp.exec(f"import {module} as m")
    facts = ask(pair[0], "m.facts()")
    assert facts.pop("threads") == (
        os.environ.get("RAYON_NUM_THREADS") or str(max(1, len(os.sched_getaffinity(0)) // 2))
    )
    found = facts.pop("found")
    assert found is (module == "probe")
    assert facts == {"main is current": 1, "check": 1}


@MODULES
def test_a_module_calls_from_a_thread_of_its_own(pair, module):
    """Into its interpreter and no other, while both do it at once."""
    code = f"""if 1:
        import {module} as m, atoll
        here, seen = atoll.get_current().id, []
        for call in (m.from_thread, m.call_back):
            for _ in range(200):
                call(lambda: seen.append(atoll.get_current().id))
        assert seen == [here] * 400
    """
    threads = [interp.call_in_thread(run, code) for interp in pair]
    for thread in threads:
        thread.join(SLACK)
        assert not thread.is_alive()


def run(code):
    exec(code, {})


def test_pending_calls_run_in_the_interpreter(pair):
    for interp in pair:
        interp.exec("""if 1:
            import probe, atoll, threading, time
            here, seen = atoll.get_current().id, []
            def note():
                seen.append(atoll.get_current().id)
            assert probe.pending(note) == 0
            thread = threading.Thread(target=probe.pending, args=(note,))
            thread.start(); thread.join()
            end = time.monotonic() + 10
            while len(seen) < 2 and time.monotonic() < end: pass
            assert seen == [here, here], seen
        """)


def test_a_thread_that_is_inside_is_waited_for(pair):
    interp, _ = pair
    queue = atoll.create_queue()
    interp.prepare_main(queue=queue)
    interp.exec("""if 1:
        import probe, threading, time
        inside = threading.Event()
        def late():
            inside.set()
            time.sleep(0.3)
            queue.put("done")
        probe.leave_thread(late)
        inside.wait()
    """)
    interp.close()
    assert queue.get_nowait() == "done"


def test_a_thread_that_stays_inside_refuses_the_close(pair):
    interp, _ = pair
    queue = atoll.create_queue()
    interp.prepare_main(queue=queue)
    interp.exec("""if 1:
        import probe, threading
        inside = threading.Event()
        def stay():
            inside.set()
            queue.get()
        probe.leave_thread(stay)
        inside.wait()
    """)
    with pytest.raises(atoll.InterpreterError, match="thread"):
        interp.close()
    interp.exec("seen = []; probe.from_thread(lambda: seen.append(1)); assert seen")
    queue.put(None)
    until(lambda: closes(interp))


def closes(interp):
    try:
        interp.close()
    except atoll.InterpreterError:
        return False
    return True


def test_threads_that_come_later_wait_for_ever(place):
    """And the process ends, with status 0 and not a word."""
    check_python(f"""
import sys
sys.path.insert(0, {place!r})
import atoll, time
for _ in range(3):
    interp = atoll.create()
    interp.exec("import probe; [probe.keep_knocking() for _ in range(3)]")
    time.sleep(0.02)
    interp.close()
    time.sleep(0.05)
""")


POOL = """
import sys
sys.path.insert(0, {place!r})
import atoll, os, threading, time
reader, writer = os.pipe()
def start(interp, asks):
    interp.exec(f"import probe; probe.start_pool({{writer}}, {{asks}})")
    time.sleep(0.05)
"""


def ends_of_pools(place, code):
    """How many pools were stopped by a process that has run the code and ended."""
    reader, writer = os.pipe()
    check_python(POOL.format(place=place) + f"writer = {writer}\n" + code, pass_fds=[writer])
    os.close(writer)
    with open(reader, "rb") as pipe:
        return len(pipe.read())


@pytest.mark.parametrize("asks", [False, True], ids=["waits", "asks"])
def test_destructors_at_exit_do_not_wait_for_late_threads(place, asks):
    """Libraries wait there for the threads of their pools. One that waits for an
    interpreter which is closed never comes; one that has asked first does."""
    code = f"""
for _ in range(3):
    with atoll.create() as interp:
        start(interp, {asks})
time.sleep(0.05)
"""
    assert ends_of_pools(place, code) == (3 if asks else 0)


def test_destructors_at_exit_of_a_busy_interpreter(place):
    """Its threads wait for a GIL that nobody gives them any more."""
    code = """
interp = atoll.create()
start(interp, True)
def stay():
    while True:
        try:
            while True: (lambda: 0)()
        except BaseException: pass
threading.Thread(target=interp.call, args=(stay,), daemon=True).start()
time.sleep(0.05)
"""
    with ThreadPoolExecutor(4) as threads:  # for more bad luck
        ends = list(threads.map(ends_of_pools, [place] * 4, [code] * 4))
    assert max(ends) <= 1  # if it was not waiting just then


def test_destructors_do_not_run_in_children(place):
    """The threads that they would wait for are not there."""
    code = """
interp = atoll.create()
start(interp, True)
import warnings; warnings.simplefilter("ignore")
pid = os.fork()
if pid == 0:
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
interp.close()
"""
    assert ends_of_pools(place, code) == 1


def test_exit_functions_run_when_the_interpreter_has_ended(pair):
    reader, writer = os.pipe()
    pair[0].exec(f"import probe; assert probe.at_exit({writer}) == 0")
    pair[0].close()
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == b"x"


def test_keys_of_thread_local_storage_come_back(place):
    """A process has about a thousand; each copy takes one, in a constructor."""
    check_python(f"""
import sys
sys.path.insert(0, {place!r})
import atoll
for _ in range(550):
    with atoll.create() as interp:
        interp.exec("import probe, pkg.multi as multi")
        interp.exec("assert probe.use_key() == multi.use_key() == 0")
""", timeout=120)


def test_nothing_is_left_behind(place, tmp_path):
    """No file, no descriptor, no mapping, no folder."""
    check_python(f"""
import sys, os
sys.path.insert(0, {place!r})
os.environ["TMPDIR"] = {str(tmp_path)!r}
import atoll
def cycle():
    with atoll.create() as interp:
        interp.exec("import probe, pkg.multi; probe.keep([])")
def state():
    with open("/proc/self/maps") as maps:
        ours = [line for line in maps if "probe" in line or "multi" in line]
    return len(os.listdir("/proc/self/fd")), ours
for _ in range(3): cycle()
before = state()
for _ in range(20): cycle()
assert state() == before and not before[1], (before, state())
assert os.listdir({str(tmp_path)!r}) == []
""")


def test_strict_is_cpythons_own_behaviour(place, monkeypatch):
    monkeypatch.syspath_prepend(place)
    with atoll.create(extensions="strict") as interp:
        for module in ("probe", "pkg.multi"):
            with pytest.raises(atoll.ExecutionFailed, match=r"ImportError.*subinterpreters"):
                interp.exec(f"import {module}")
        interp.exec("import json, math, ctypes, sqlite3")


@pytest.mark.parametrize("value", ["Isolate", "", None, 1, "legacy"])
def test_other_modes_are_errors(value):
    with pytest.raises(ValueError, match="'isolate' or 'strict'"):
        atoll.create(extensions=value)


def test_main_is_as_it_was(place, monkeypatch):
    """In main nothing changes: the original, loaded by CPython."""
    check_python(f"""
import sys
sys.path.insert(0, {place!r})
import atoll
interp = atoll.create()
interp.exec("import probe; probe.count()")
import probe, importlib.machinery
assert probe.count() == 2
loader = importlib.machinery.ExtensionFileLoader
assert loader.create_module.__module__ == "_frozen_importlib_external"
with open("/proc/self/maps") as maps:
    writable = [line for line in maps if " rw-p " in line and "/probe." in line]
assert writable and not any("memfd" in line for line in writable[-1:]), writable
interp.exec("assert probe.count() == 3")
interp.close()
""")


def test_standard_modules_that_cpython_refuses(pair):
    import faulthandler

    enabled = faulthandler.is_enabled()
    for interp in pair:
        interp.exec("""if 1:
            import faulthandler, tracemalloc
            faulthandler.enable(); faulthandler.disable()
            faulthandler.cancel_dump_traceback_later()
            for function in (faulthandler.dump_traceback_later, tracemalloc.start):
                try: function(5)
                except RuntimeError as exc: assert "main interpreter" in str(exc)
                else: assert False
            assert not tracemalloc.is_tracing()
        """)
    assert faulthandler.is_enabled() == enabled


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an ELF file"),
        (b"hello, world\n" * 100, "not an ELF file"),
        (b"\x7fELF" + b"\xff" * 2000, "machine|damaged"),
    ],
    ids=["empty", "text", "damaged"],
)
def test_files_that_are_no_modules(pair, tmp_path, content, reason):
    (tmp_path / "broken_module.so").write_bytes(content)
    with pytest.raises(atoll.ExecutionFailed) as caught:
        pair[0].exec(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import broken_module")
    cause = caught.value.__cause__
    assert isinstance(cause, ImportError)
    assert cause.name == "broken_module" and cause.path == str(tmp_path / "broken_module.so")
    assert re.search(f"broken_module.*({reason})", str(cause))


def test_without_the_function_that_makes_it(pair, place, tmp_path):
    """A module under another name than it was made for."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    os.link(f"{place}/probe{suffix}", tmp_path / f"renamed{suffix}")
    with pytest.raises(atoll.ExecutionFailed, match="PyInit_renamed"):
        pair[0].exec(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import renamed")
    pair[0].exec("import probe; probe.count()")


def test_no_room_for_temporary_files(place):
    """Links need a folder; the error says what to do."""
    result = run_python(f"""
import sys
sys.path.insert(0, {place!r})
import atoll, resource
with atoll.create() as interp:
    interp.exec("1")
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        interp.exec("import probe")
    except atoll.ExecutionFailed as failed:
        print(failed.__cause__)
""")
    assert "probe" in result.stdout and "copy" in result.stdout


def test_many_load_at_once(place, monkeypatch):
    monkeypatch.syspath_prepend(place)
    made = [atoll.create() for _ in range(8)]
    threads = [
        interp.call_in_thread(run, "import probe, pkg.multi; assert probe.count() == 2")
        for interp in made
    ]
    for thread in threads:
        thread.join()
    for interp in made:
        assert ask(interp, "__import__('probe').count()") == 3
        interp.close()


def test_ctypes_opens_libraries_of_packages_privately(pair, place):
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for interp in pair:
        interp.exec(f"""
import ctypes
library = ctypes.PyDLL({place!r} + "/probe{suffix}")
again = ctypes.PyDLL({place!r} + "/probe{suffix}")
made = ctypes.cast(library.PyInit_probe, ctypes.c_void_p).value
assert made == ctypes.cast(again.PyInit_probe, ctypes.c_void_p).value
assert ctypes.CDLL(None).getpid() > 0 and ctypes.CDLL("libc.so.6").getpid() > 0
""")
    assert ask(pair[0], "made") != ask(pair[1], "made")
    pair[0].exec("""if 1:
        import pytest
        with pytest.raises(OSError):
            ctypes.CDLL("/nowhere/site-packages/none.so")
        with pytest.raises(TypeError):
            ctypes.CDLL(1.5)
    """)


def test_threads_of_main_and_interpreters_at_once(place, monkeypatch):
    """The same module in main, called from its threads, and in an interpreter."""
    monkeypatch.syspath_prepend(place)
    import probe

    interp = atoll.create()
    thread = interp.call_in_thread(
        run, "import probe\nfor _ in range(300): probe.from_thread(lambda: None)"
    )
    seen = []
    for _ in range(300):
        probe.from_thread(lambda: seen.append(threading.get_ident()))
    thread.join()
    interp.close()
    assert len(seen) == 300


def test_the_system_shows_the_original(pair, place):
    """By an unusual spelling of its path, or main would load the copy."""
    interp, _ = pair
    interp.exec("""if 1:
        import ctypes, probe
        class Info(ctypes.Structure):
            _fields_ = [("file", ctypes.c_char_p), ("base", ctypes.c_void_p),
                        ("name", ctypes.c_char_p), ("symbol", ctypes.c_void_p)]
        info = Info()
        code = ctypes.c_void_p(probe.address()[1])
        assert ctypes.CDLL(None).dladdr(code, ctypes.byref(info))
    """)
    shown = ask(interp, "info.file.decode()")
    assert os.path.samefile(shown, ask(interp, "probe.__file__"))
    assert shown.startswith(f"{place}/./probe")


@pytest.mark.skipif(shutil.which("gdb") is None, reason="needs gdb")
def test_gdb_attaches_and_shows_names(pair, place):
    interp, _ = pair
    interp.exec("import probe; probe.count()")
    command = ["gdb", "-nx", "-batch", "-p", str(os.getpid()), "-ex", "info sharedlibrary"]
    code = ask(interp, "probe.address()[1]")
    done = subprocess.run(
        [*command, "-ex", f"info symbol {code}"],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )
    if "ptrace" in done.stderr:
        pytest.skip("this process may not be traced")
    assert f"{place}/./probe" in done.stdout, done.stdout + done.stderr
    assert re.search(r"^count in section \.text", done.stdout, re.M), done.stdout


def test_fork_handlers_of_other_interpreters_do_not_run(pair):
    """In the child their threads are gone, and with them whoever has their GIL."""
    reader, writer = os.pipe()
    for interp in pair:
        interp.exec("import probe; assert probe.fork_child(-1) == 0")
    threads = [
        interp.call_in_thread(
            run, f"import probe\nfor _ in range(20): assert probe.fork_child({writer}) == 0"
        )
        for interp in pair
    ]
    for thread in threads:
        thread.join(SLACK)
        assert not thread.is_alive()
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == b"1" * 40


LOADERS = """
import importlib.abc, importlib.machinery, importlib.util, sysconfig

class Source(importlib.abc.InspectLoader):
    def get_source(self, name):
        return "attr = 42"
    def is_package(self, name):
        return False

class Extension:
    create_module = importlib.machinery.ExtensionFileLoader.create_module
    exec_module = importlib.machinery.ExtensionFileLoader.exec_module
    def __init__(self, name, path):
        self.name, self.path = name, path

def load(name, loader, **location):
    spec = importlib.util.spec_from_loader(name, loader, **location)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module

assert load("made", Source()).attr == 42
path = importlib.util.find_spec("_asyncio").origin
if path.endswith(".so"):  # not built into this Python
    loaded = load("_asyncio", Extension("_asyncio", path), origin=path)
    assert loaded.Future.__name__ == "Future"
"""


def test_loaders_that_borrow_methods():
    """Classes that take exec_module and create_module from importlib's have methods."""
    with atoll.create() as interp:
        interp.exec(LOADERS)
