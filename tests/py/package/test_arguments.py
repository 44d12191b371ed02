"""What is wrong with an argument is said by atoll, with the argument's name, what it has
to be and what has come; not by whatever it is handed on to, in other words."""

import io

import atoll
import pytest


def fn(value=0):
    return value


class Thing:
    """Not an int, a number, a str, an iterable, a mapping, a callable or a file."""


INT = ("x", 1.5, [], Thing())
TIME = "a number of seconds or None"
SECONDS = ("1", [], 1j, Thing())
TEXT = (1, b"x", [], Thing())
ITERABLE = (3, 1.5, Thing())
CALLABLE = (3, "x", [], Thing())

# (a call with @ for the wrong argument, its name, what it must be, what it is not)
RULES = [
    ("Pool(@)", "max_workers", "an int", INT),
    ("Pool(nice=@)", "nice", "an int", (*INT, None)),
    ("Pool(max_tasks_per_child=@)", "max_tasks_per_child", "an int or None", INT),
    ("pool.map(fn, [1], chunksize=@)", "chunksize", "an int", (*INT, None)),
    ("pool.map(fn, [1], buffersize=@)", "buffersize", "an integer or None", INT),
    ("atoll.warm(@)", "count", "an int", (*INT, None)),
    ("atoll.create_queue(@)", "maxsize", "an int", (*INT, None)),
    ("atoll.create_channel(@)", "capacity", "an int", (*INT, None)),
    ("atoll.create_broadcast(@)", "receivers", "an int", (*INT, None)),
    ("atoll.create_broadcast(1, @)", "capacity", "an int", (*INT, None)),
    ("atoll.pipeline([1], (fn, @))", "workers", "an int", (*INT, None)),
    ("atoll.pipeline([1], fn, capacity=@)", "capacity", "an int or None", INT),
    ("atoll.Counter(@)", "value", "an int", (*INT, None)),
    ("atoll.Counter().add(@)", "n", "an int", (*INT, None)),
    ("atoll.Counter().sub(@)", "n", "an int", (*INT, None)),
    ("atoll.Counter().compare_and_set(@, 1)", "expected", "an int", (*INT, None)),
    ("atoll.Counter().compare_and_set(1, @)", "new", "an int", (*INT, None)),
    ("atoll.Semaphore(@)", "value", "an int", (*INT, None)),
    ("atoll.BoundedSemaphore(@)", "value", "an int", (*INT, None)),
    ("atoll.Semaphore().release(@)", "n", "an int", (*INT, None)),
    ("atoll.Barrier(@)", "parties", "an int", (*INT, None)),
    ("held.notify(@)", "n", "an int", (*INT, None)),
    ("atoll.Buffer(@)", "nbytes", "an int", (*INT, None)),
    ("atoll.dump_on_signal(@)", "signum", "an int", (*INT, None)),
    ("atoll.doctor([], jobs=@)", "jobs", "an int or None", INT),
    ("Pool(grace=@)", "grace", TIME, SECONDS),
    ("Pool(exit_grace=@)", "exit_grace", TIME, SECONDS),
    ("pool.submit_with(fn, timeout=@)", "timeout", TIME, SECONDS),
    ("pool.map(fn, [1], timeout=@)", "timeout", TIME, SECONDS),
    ("atoll.Task(fn, timeout=@)", "timeout", TIME, SECONDS),
    ("atoll.Task(fn, grace=@)", "grace", TIME, SECONDS),
    ("future.result(@)", "timeout", TIME, SECONDS),
    ("future.exception(@)", "timeout", TIME, SECONDS),
    ("interp.close(@)", "timeout", TIME, SECONDS),
    ("interp.submit(fn).join(@)", "timeout", TIME, SECONDS),
    ("queue.put(1, timeout=@)", "timeout", TIME, SECONDS),
    ("queue.get(timeout=@)", "timeout", TIME, SECONDS),
    ("send.send(1, @)", "timeout", TIME, SECONDS),
    ("recv.recv(@)", "timeout", TIME, SECONDS),
    ("atoll.select(recv, timeout=@)", "timeout", TIME, SECONDS),
    ("cast.send(1, @)", "timeout", TIME, SECONDS),
    ("atoll.Semaphore(0).acquire(timeout=@)", "timeout", TIME, SECONDS),
    ("held.wait(@)", "timeout", TIME, SECONDS),
    ("held.wait_for(fn, @)", "timeout", TIME, SECONDS),
    ("atoll.Event().wait(@)", "timeout", TIME, SECONDS),
    ("atoll.Barrier(1, timeout=@)", "timeout", TIME, SECONDS),
    ("atoll.Barrier(2).wait(@)", "timeout", TIME, SECONDS),
    ("atoll.doctor([], timeout=@)", "timeout", TIME, SECONDS),
    ("atoll.Lock().acquire(timeout=@)", "timeout", "a number of seconds", (*SECONDS, None)),
    ("atoll.RLock().acquire(timeout=@)", "timeout", "a number of seconds", (*SECONDS, None)),
    ("atoll.after(@)", "seconds", "a number", (*SECONDS, None)),
    ("atoll.ticker(@)", "seconds", "a number", (*SECONDS, None)),
    ("Pool(name=@)", "name", "a str", TEXT),
    ("Pool(thread_name_prefix=@)", "thread_name_prefix", "a str", TEXT),
    ("atoll.create(@)", "name", "a str", TEXT),
    ("atoll.Task(fn, name=@)", "name", "a str", TEXT),
    ("atoll.pipeline([1], fn, name=@)", "name", "a str", TEXT),
    ("atoll.freeze(1, name=@)", "name", "a str or None", TEXT),
    ("atoll.frozen_xml(b'<a/>', name=@)", "name", "a str or None", TEXT),
    ("Pool(preload=@)", "preload", "an iterable", (*ITERABLE, None)),
    ("atoll.create(preload=@)", "preload", "an iterable", (*ITERABLE, None)),
    ("atoll.warm(0, preload=@)", "preload", "an iterable", (*ITERABLE, None)),
    ("atoll.Task(fn, preload=@)", "preload", "an iterable", (*ITERABLE, None)),
    ("Pool(initializer=fn, initargs=@)", "initargs", "an iterable", (*ITERABLE, None)),
    ("pool.submit_with(fn, @)", "args", "an iterable", (*ITERABLE, None)),
    ("atoll.Task(fn, @)", "args", "an iterable", (*ITERABLE, None)),
    ("atoll.Broadcast(@)", "ends", "an iterable", (*ITERABLE, None)),
    ("atoll.doctor(@)", "packages", "an iterable of str or None", ITERABLE),
    ("pool.map(fn, @)", "iterables[0]", "an iterable", (*ITERABLE, None)),
    ("pool.map(fn, [1], @)", "iterables[1]", "an iterable", (*ITERABLE, None)),
    ("atoll.pipeline(@, fn)", "source", "an iterable, a RecvChannel or a Queue", ITERABLE),
    ("pool.submit_with(fn, (), @)", "kwargs", "a mapping or None", ("x", [1], 3)),
    ("atoll.Task(fn, (), @)", "kwargs", "a mapping or None", ("x", [1], 3)),
    ("interp.prepare_main(@)", "ns", "a mapping or an iterable of pairs", ("x", [1], 3)),
    ("Pool(initializer=@)", "initializer", "a callable or None", CALLABLE),
    ("pool.map(@, [1])", "fn", "callable", (*CALLABLE, None)),
    ("future.add_done_callback(@)", "fn", "callable", (*CALLABLE, None)),
    ("interp.call_in_thread(@)", "function", "callable", (*CALLABLE, None)),
    ("atoll.Task(@)", "target", "callable", (*CALLABLE, None)),
    ("atoll.spawn(@)", "fn", "callable", (*CALLABLE, None)),
    ("atoll.TaskGroup().spawn(@)", "fn", "callable", (*CALLABLE, None)),
    ("atoll.pipeline([1], @)", "a stage", "callable", (*CALLABLE, None)),
    ("atoll.pipeline([1], (@, 2))", "a stage", "callable", (*CALLABLE, None)),
    ("atoll.Barrier(1, @)", "action", "callable or None", CALLABLE),
    ("held.wait_for(@)", "predicate", "callable", (*CALLABLE, None)),
    ("atoll.TaskGroup().start(@)", "task", "a Task", (*CALLABLE, None, fn)),
    ("recv.poison(@)", "exc", "an exception or None", (3, "x", [])),
    ("atoll.dump(@)", "file", "a text file or None", CALLABLE),
    ("atoll.dump_on_signal(10, @)", "file", "a text file or None", CALLABLE),
    ("atoll.trace(@)", "file", "a path or a text file", (3, [], Thing(), None)),
    ("atoll.frozen_xml(@)", "source", "a path, bytes or a file", (3, [], Thing(), None)),
]

# Other words, and values of the right type.
SAID = [
    ("pool.submit(3)", TypeError, "expected a callable, got int"),
    ("pool.submit_with('x')", TypeError, "expected a callable, got str"),
    ("interp.call(3)", TypeError, "expected a callable, got int"),
    ("interp.submit(None)", TypeError, "expected a callable, got NoneType"),
    ("interp.exec(3)", TypeError, "expected source code or a function, got int"),
    ("interp.prepare_main()", ValueError, "there is no name to bind"),
    ("atoll.Interpreter('x')", TypeError, "id must be an int, got 'x'"),
    ("atoll.Interpreter(-1)", ValueError, "id must be 0 or more, got -1"),
    ("atoll.Interpreter(10**30)", atoll.InterpreterNotFoundError, f"{10**30}"),
    ("atoll.Queue('x')", TypeError, "id must be an int, got 'x'"),
    ("atoll.Queue(-1)", ValueError, "id must be 0 or more, got -1"),
    ("atoll.Queue(-(10**30))", ValueError, "id must be 0 or more"),
    ("atoll.Queue(10**30)", atoll.QueueNotFoundError, ""),
    ("Pool(0)", ValueError, "max_workers must be greater than 0"),
    ("Pool(10**30)", ValueError, "max_workers must be at most 10000"),
    ("Pool(nice=20)", ValueError, "nice must be from 0 to 19"),
    ("Pool(max_tasks_per_child=0)", ValueError, "max_tasks_per_child must be >= 1"),
    ("Pool(grace=-1)", ValueError, "grace must be a non-negative number of seconds, not -1"),
    ("Pool(exit_grace=NAN)", ValueError, "exit_grace must be a non-negative number"),
    ("Pool(extensions='x')", ValueError, "extensions must be 'isolate' or 'strict', not 'x'"),
    ("Pool(preload='json')", TypeError, "preload must be a sequence of module names, not one"),
    ("Pool(preload=[1])", TypeError, "preload must contain names of modules, not 1"),
    ("Pool(follow=3)", TypeError, "follow must be a bool or a set of names, not int"),
    ("Pool(follow=['x'])", ValueError, "follow has no 'x'; the names are environ,"),
    ("pool.submit_with(fn, timeout=-1)", ValueError, "timeout must be a non-negative number"),
    ("atoll.Task(fn, timeout=NAN)", ValueError, "timeout must be a non-negative number"),
    ("cast.send(1, -1)", ValueError, "timeout must be a non-negative number"),
    ("pool.map(fn, [1], chunksize=0)", ValueError, "chunksize must be >= 1"),
    ("pool.map(fn, [1], buffersize=0)", ValueError, "buffersize must be None or > 0"),
    ("atoll.warm(-1)", ValueError, "count must be 0 or more, not -1"),
    ("atoll.create_queue(10**30)", OverflowError, "maxsize must fit into 64 bits"),
    ("atoll.create_channel(10**30)", OverflowError, "capacity must fit into 64 bits"),
    ("atoll.create_channel(-1)", ValueError, "capacity must be 0 or more, not -1"),
    ("atoll.create_broadcast(0)", ValueError, "a broadcast needs at least one receiver"),
    ("atoll.Broadcast([recv])", TypeError, "ends must be SendChannels, not RecvChannel"),
    ("queue.put(1, unbounditems='x')", NotImplementedError, "unbounditems must be KEEP"),
    ("atoll.create_queue(unbounditems=1)", NotImplementedError, "or None, not 1"),
    ("atoll.after(-1)", ValueError, "after() takes a non-negative number"),
    ("atoll.ticker(0)", ValueError, "ticker() takes a positive number"),
    ("atoll.select('x')", TypeError, "case 0: expected a RecvChannel, Queue, Future"),
    ("next(atoll.fan_in(recv, 3))", TypeError, "case 1: expected a RecvChannel"),
    ("atoll.poison_on_exit(3)", TypeError, "takes ends of channels, not int"),
    ("atoll.pipeline([1])", TypeError, "a pipeline needs at least one stage"),
    ("atoll.pipeline([1], (fn, 1, 2))", TypeError, "a stage is a callable, or one and a"),
    ("atoll.pipeline([1], ())", TypeError, "a stage is a callable, or one and"),
    ("atoll.pipeline([1], (fn, 0))", ValueError, "a stage needs at least one worker"),
    ("atoll.pipeline([1], fn, capacity=-1)", ValueError, "capacity must be 0 or more"),
    ("atoll.Semaphore(10**30)", OverflowError, "value must fit into 64 bits"),
    ("atoll.Counter().add(10**30)", OverflowError, "n must fit into 64 bits"),
    ("atoll.Barrier(0)", ValueError, "parties must be >= 1"),
    ("atoll.Buffer(-1)", ValueError, "nbytes must not be negative"),
    ("atoll.Buffer(10**30)", OverflowError, "nbytes must fit into 64 bits"),
    ("atoll.Condition(3)", TypeError, "lock must be an atoll.Lock or atoll.RLock, not int"),
    ("atoll.share('x')", TypeError, "share() takes an object with a buffer, such as bytes or"),
    ("send.send_buffer([])", TypeError, "send_buffer() takes an object with a buffer"),
    ("atoll.move('x')", TypeError, "move() takes a bytearray, array.array, numpy.ndarray or"),
    ("atoll.thaw([])", TypeError, "thaw() is for a Frozen"),
    ("atoll.freeze(fn)", atoll.NotShareableError, "function cannot be frozen"),
    ("atoll.register('x', fn, fn)", TypeError, "register() argument 1 must be type, not str"),
    ("atoll.register(Thing, 3, fn)", TypeError, "register() takes two callables"),
    ("atoll.register_frozen('x', fn, fn)", TypeError, "takes a class first, not 'x'"),
    ("atoll.register_frozen(Thing, fn, 3)", TypeError, "takes two callables after the type"),
    ("atoll.trace(io.StringIO(), limit='x')", ValueError, "limit must be a positive int"),
    ("atoll.doctor('numpy')", TypeError, "packages must be an iterable of str, not a str"),
    ("atoll.doctor([], timeout=0)", ValueError, "timeout must be positive, not 0"),
]


@pytest.fixture
def names(request):
    """What the calls use."""
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    call = params.get("call", "")
    recv, send = atoll.create_channel(4)
    ends, cast = atoll.create_broadcast(1, 4)
    held = atoll.Condition()
    with atoll.InterpreterPoolExecutor(1) as pool, held:
        names = {
            "Pool": atoll.InterpreterPoolExecutor, "NAN": float("nan"), "Thing": Thing,
            "atoll": atoll, "cast": cast, "ends": ends, "fn": fn, "held": held, "io": io,
            "pool": pool, "queue": atoll.create_queue(), "recv": recv, "send": send,
        }  # fmt: skip
        if "interp." in call:
            names["interp"] = request.getfixturevalue("interp")
        if "future." in call:
            names["future"] = pool.submit(fn)
        yield names


@pytest.mark.parametrize("call, argument, wanted, wrong", RULES, ids=[r[0] for r in RULES])
def test_what_it_must_be(names, call, argument, wanted, wrong):
    for value in wrong:
        with pytest.raises(TypeError) as info:
            eval(call.replace("@", "value"), names, {"value": value})
        text = f"{argument} must be {wanted}, not {type(value).__name__}"
        said = str(info.value).replace(f"{__name__}.", "")  # the core names the module
        assert said == text


@pytest.mark.parametrize("call, error, text", SAID, ids=[s[0] for s in SAID])
def test_what_is_said(names, call, error, text):
    with pytest.raises(error) as info:
        eval(call, names)
    assert text in str(info.value)


def test_ints_of_other_kinds_are_ints(names):
    """Such as NumPy's."""

    class Two:
        def __index__(self):
            return 2

    with atoll.InterpreterPoolExecutor(Two(), max_tasks_per_child=Two()) as pool:
        assert len(pool.stats().workers) == 2
        assert list(pool.map(abs, [-1, -2, -3], chunksize=Two())) == [1, 2, 3]
    assert atoll.Counter(Two()).add(Two()) == 4


def test_what_an_iterator_raises_is_its_own_affair(names):
    def broken():
        raise TypeError("of the iterator")
        yield

    for call in ("pool.submit_with(fn, it)", "Pool(preload=it)", "list(pool.map(fn, it))"):
        with pytest.raises(TypeError, match="of the iterator"):
            eval(call, names, {"it": broken()})
