"""Creating: from several threads and interpreters, while others look."""

import atoll
import pytest
from support import STRESS, Task, check_python


def test_from_several_threads_at_once():
    made = []

    def create(n):
        for k in range(5):
            interp = atoll.create(f"{n}.{k}")
            interp.exec(f"x = {n * 10 + k}")
            made.append((interp, n * 10 + k))

    tasks = [Task(create, n) for n in range(4)]
    for task in tasks:
        task.result(60)
    assert len({interp.id for interp, _ in made}) == 20
    for interp, value in made:
        assert interp.whence == "atoll"
        interp.exec(f"assert x == {value}")
        interp.close()


def test_listing_while_others_create():
    """One that is listed while it is made is usable all the same."""
    stop = False

    def lister():
        kept = []
        while not stop:
            kept = atoll.list_all()
        del kept

    def creator():
        for _ in range(20 * STRESS):
            interp = atoll.create()
            assert interp.whence == "atoll"
            interp.exec("x = 1")
            interp.close()

    listers = [Task(lister) for _ in range(2)]
    creators = [Task(creator) for _ in range(3)]
    try:
        for task in creators:
            task.result(90 * STRESS)
    finally:
        stop = True
    for task in listers:
        task.result()


def test_one_object_per_id_in_threads(interp):
    """Messages with an interpreter, decoded by many threads at once."""
    queue = atoll.create_queue()
    for _ in range(200):
        with atoll.create() if _ % 100 == 0 else NullContext(interp) as it:
            for _ in range(4):
                queue.put(it)
                queue.put([it])
            tasks = [Task(lambda: [queue.get(), queue.get()]) for _ in range(4)]
            got = [
                obj[0] if isinstance(obj, list) else obj
                for task in tasks
                for obj in task.result()
            ]
            assert all(obj is it for obj in got)


class NullContext:
    def __init__(self, value):
        self.value = value

    def __enter__(self):
        return self.value

    def __exit__(self, *exc_info):
        pass


def test_interpreters_that_create_interpreters():
    def tree(depth):
        import atoll

        if depth == 0:
            return 1
        with atoll.create() as a, atoll.create() as b:
            return a.call(tree, depth - 1) + b.call(tree, depth - 1)

    with atoll.create() as interp:
        assert interp.call(tree, 3) == 8


def test_a_hundred_at_once():
    check_python(
        """
        import atoll, threading
        queue, back = atoll.create_queue(), atoll.create_queue()
        interps = [atoll.create() for _ in range(100)]
        def work(queue, back):
            back.put(queue.get() * 2)
        threads = [threading.Thread(target=i.call, args=(work, queue, back))
                   for i in interps]
        for t in threads: t.start()
        for n in range(100): queue.put(n)
        for t in threads: t.join()
        assert sorted(back.get() for _ in interps) == [2 * n for n in range(100)]
        assert [i.id for i in atoll.list_all()[1:]] == [i.id for i in interps]
        for i in interps: i.close()
        assert len(atoll.list_all()) == 1
        """,
        timeout=60,
    )


def test_first_import_in_several_interpreters_at_once():
    """While the list of interpreters changes all the time."""
    check_python(
        """
        import _interpreters, threading
        errors = []
        def work():
            for _ in range(15):
                id = _interpreters.create()
                error = _interpreters.exec(
                    id, "import atoll; q = atoll.create_queue(); q.put(1)")
                if error is not None:
                    errors.append(error.errdisplay)
                _interpreters.destroy(id)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert not errors, errors[0]
        """,
        timeout=60,
    )


@pytest.mark.parametrize("broken", ["atoll", "encodings", "everything"])
def test_an_interpreter_that_cannot_be_prepared(broken):
    """A clear error, and nothing left behind."""
    check_python(
        f"""
        import atoll, sys, _interpreters
        from support import count_threads, until
        path = list(sys.path)
        if {broken!r} == "atoll":
            sys.path[:] = [p for p in path if "site-packages" not in p]
        elif {broken!r} == "everything":
            sys.path[:] = ["/nowhere"]
        else:
            sys.path[:] = [1, None, *path]      # what is no str is left out
        threads = count_threads()
        for _ in range(5):
            try:
                atoll.create().close()
            except atoll.InterpreterError as exc:
                assert "atoll" in str(exc), exc
                assert {broken!r} != "encodings"
            else:
                assert {broken!r} == "encodings"
        sys.path[:] = path
        with atoll.create() as interp:
            interp.exec("x = 1")
        assert len(_interpreters.list_all()) == 1
        until(lambda: count_threads() == threads)  # the kernel's list is a moment late
        """
    )
