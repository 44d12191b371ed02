"""atoll.register: a type's own way to cross."""

import atoll
import pytest
import sendable
import workers
from sendable import Guarded, MoreGuarded, Plain, Reduced, rebuild_guarded, reduce_guarded


@pytest.fixture
def registered():
    """A registration stays: so each test registers again what it needs."""
    atoll.register(Guarded, reduce_guarded, rebuild_guarded)


def test_what_could_not_be_sent_can_be(registered, way):
    obj = Guarded([1])
    got = way([obj, {"k": obj}, Guarded(2)])
    assert type(got[0]) is Guarded
    assert (got[0].value, got[2].value) == ([1], 2)
    assert got[0] is got[1]["k"] is not obj
    assert got[0].value is not obj.value
    assert not got[0].lock.locked()


def test_what_is_shared_with_the_rest_of_the_message_stays_shared(registered, way):
    shared = [1]
    got = way([shared, Guarded(shared), Guarded((shared,))])
    assert got[0] is got[1].value is got[2].value[0]


def test_subclasses_are_not_included(registered, queue):
    with pytest.raises(atoll.NotShareableError):
        queue.put(MoreGuarded(1))
    assert queue.empty()


def test_it_comes_before_the_type_s_own_reduce(way):
    class Local:
        def __reduce__(self):
            raise AssertionError("what is registered comes first")

    atoll.register(Local, lambda obj: ("reduced", obj.x), lambda state: [state])
    obj = Local()
    obj.x = 5
    assert way({"k": obj}) == {"k": [("reduced", 5)]}


def test_it_may_be_replaced(queue):
    class Local:
        pass

    for n in range(3):
        atoll.register(Local, lambda obj, n=n: n, lambda state: ("rebuilt", state))
        queue.put(Local())
        assert queue.get() == ("rebuilt", n)


def test_a_rebuild_that_goes_by_value(interp):
    class Local:
        pass

    offset = 10
    atoll.register(Local, lambda obj: 5, lambda state: state + offset)
    assert interp.call(workers.give, [Local(), Local()]) == [15, 15]


def test_later_interpreters_inherit_it(registered):
    with atoll.create() as interp:
        assert interp.call(sendable.send_new_one, 5) == 5
        atoll.register(Guarded, reduce_guarded, sendable.rebuild_marked)
        assert interp.call(sendable.send_new_one, 6) == 6
        with atoll.create() as later:
            assert later.call(sendable.send_new_one, 7) == ("marked", 7)


def test_grandchildren_inherit_it(registered):
    with atoll.create() as interp:
        assert interp.call(grandchild) == 5


def grandchild():
    import atoll
    import sendable

    with atoll.create() as interp:
        return interp.call(sendable.send_new_one, 5)


def test_it_holds_in_the_interpreter_that_registers(interp):
    """One that lives already is not changed, nor is the maker of one."""
    interp.exec(
        "import atoll, sendable\n"
        "atoll.register(sendable.Square, lambda obj: obj.side, lambda side: ['square', side])"
    )
    assert interp.call(workers.give, sendable.Square(3)) == ["square", 3]
    queue = atoll.create_queue()
    queue.put(sendable.Square(4))
    assert type(queue.get()) is sendable.Square


def test_what_cannot_be_imported_is_not_inherited(registered):
    class Local:
        pass

    atoll.register(Local, lambda obj: 1, lambda state: 2)
    with atoll.create() as interp:
        assert interp.call(sendable.send_new_one, 5) == 5
        assert interp.call(workers.give, Local()) == 2


def test_an_interpreter_receives_what_it_has_not_registered():
    with atoll.create() as interp:
        atoll.register(Guarded, reduce_guarded, rebuild_guarded)
        assert interp.call(lambda obj: obj.value, Guarded(5)) == 5


@pytest.mark.parametrize("type", [int, str, list, dict, tuple, bytes, type(None), float, bool])
def test_types_that_cross_by_themselves_cannot_be_registered(type):
    with pytest.raises(TypeError):
        atoll.register(type, lambda obj: 1, lambda state: 2)


def test_what_is_no_class_or_no_function():
    for args in ((5, len, len), (Plain(1), len, len), (Plain, 5, len), (Plain, len, None),
                 (Plain, len), ()):
        with pytest.raises(TypeError):
            atoll.register(*args)


def test_an_error_of_reduce_is_that_error(queue):
    class Local:
        pass

    atoll.register(Local, lambda obj: 1 / 0, lambda state: 2)
    with pytest.raises(ZeroDivisionError):
        queue.put([1, Local()])
    assert queue.empty()


def test_an_error_of_rebuild_spoils_only_its_message(queue):
    class Local:
        pass

    atoll.register(Local, lambda obj: 1, lambda state: 1 / 0)
    queue.put([1, Local()])
    queue.put("next")
    with pytest.raises(ZeroDivisionError):
        queue.get()
    assert queue.get() == "next"


def test_what_reduce_returns_may_be_unsendable(queue):
    class Local:
        pass

    atoll.register(Local, lambda obj: [0, (n for n in ())], lambda state: 2)
    with pytest.raises(atoll.NotShareableError, match="generator object"):
        queue.put([Local()])
    assert queue.empty()


def test_what_reduce_returns_may_contain_others(way):
    class Local:
        def __init__(self, inner):
            self.inner = inner

    atoll.register(Local, lambda obj: obj.inner, lambda state: ("local", state))
    assert way(Local(Local([Local(1), Reduced(2)]))) == (
        "local", ("local", [("local", 1), Reduced(2)]))


def test_reduce_that_returns_the_object_itself_is_no_crash(queue):
    class Local:
        pass

    for reduce in (lambda obj: obj, lambda obj: [obj], lambda obj: Local()):
        atoll.register(Local, reduce, lambda state: state)
        with pytest.raises((RecursionError, atoll.NotShareableError)):
            queue.put(Local())
        assert queue.empty()
