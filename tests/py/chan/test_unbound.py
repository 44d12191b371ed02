"""What becomes of items whose sender is closed: unbounditems."""

import gc

import atoll
import pytest
from support import until

RULES = [atoll.KEEP, atoll.UNBOUND, atoll.UNBOUND_ERROR, atoll.UNBOUND_REMOVE]


def put_and_close(queue, *args, close=True):
    """Put the (item, rule) pairs from an interpreter that is then closed."""
    interp = atoll.create()
    interp.prepare_main(queue=queue, items=list(args))
    interp.exec("for item, rule in items: queue.put(item, unbounditems=rule)")
    if close:
        interp.close()
    return interp


def test_default_keeps(queue):
    assert queue.unbounditems is atoll.KEEP
    put_and_close(queue, (1, None), ("x" * 500, None), ([2], None))
    assert [queue.get() for _ in range(3)] == [1, "x" * 500, [2]]


@pytest.mark.parametrize("rule", RULES)
def test_default_of_the_queue(rule):
    queue = atoll.create_queue(unbounditems=rule)
    assert queue.unbounditems is rule
    put_and_close(queue, (1, None))
    check(queue, rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("default", RULES)
def test_rule_of_the_item(rule, default):
    queue = atoll.create_queue(unbounditems=default)
    put_and_close(queue, (1, rule))
    check(queue, rule)


def check(queue, rule):
    if rule is atoll.KEEP:
        assert queue.get_nowait() == 1
    elif rule is atoll.UNBOUND:
        assert queue.get_nowait() is atoll.UNBOUND
    elif rule is atoll.UNBOUND_ERROR:
        with pytest.raises(atoll.ItemInterpreterDestroyed) as info:
            queue.get_nowait()
        assert isinstance(info.value, atoll.QueueError)
    with pytest.raises(atoll.QueueEmpty):
        queue.get_nowait()


@pytest.mark.parametrize("rule", RULES)
def test_read_before_the_close(rule):
    queue = atoll.create_queue(unbounditems=rule)
    interp = put_and_close(queue, (1, None), (2, rule), close=False)
    assert [queue.get(), queue.get()] == [1, 2]
    interp.close()
    assert queue.empty()


def test_mixed_rules_keep_the_order():
    queue = atoll.create_queue()
    queue.put("mine", unbounditems=atoll.UNBOUND)
    put_and_close(
        queue,
        (1, atoll.UNBOUND),
        (2, atoll.KEEP),
        (3, atoll.UNBOUND_REMOVE),
        (4, atoll.UNBOUND_ERROR),
        (5, atoll.UNBOUND_REMOVE),
        (6, None),
    )
    queue.put("last")
    assert queue.qsize() == 6
    assert [queue.get() for _ in range(3)] == ["mine", atoll.UNBOUND, 2]
    with pytest.raises(atoll.ItemInterpreterDestroyed):
        queue.get()
    assert [queue.get(), queue.get()] == [6, "last"]


def test_only_the_closed_interpreter_s_items():
    queue = atoll.create_queue(unbounditems=atoll.UNBOUND_REMOVE)
    stays = put_and_close(queue, ("a", None), close=False)
    put_and_close(queue, *[(n, None) for n in range(200)])
    queue.put("b")
    assert [queue.get_nowait(), queue.get_nowait()] == ["a", "b"]
    assert queue.empty()
    stays.close()


def test_removed_items_make_room():
    queue = atoll.create_queue(2, unbounditems=atoll.UNBOUND_REMOVE)
    put_and_close(queue, (1, None), (2, None))
    queue.put_nowait("there is room")
    assert queue.get_nowait() == "there is room"


def test_removed_items_release_what_they_hold():
    queue, inner = atoll.create_queue(), atoll.create_queue()
    id = inner.id
    put_and_close(
        queue, (inner, atoll.UNBOUND_REMOVE), ([inner], atoll.UNBOUND_ERROR)
    )
    del inner
    with pytest.raises(atoll.ItemInterpreterDestroyed):
        queue.get()
    gc.collect()
    with pytest.raises(atoll.QueueNotFoundError):
        atoll.Queue(id)


def test_a_dropped_handle_counts_as_a_close():
    queue = atoll.create_queue(unbounditems=atoll.UNBOUND)
    interp = put_and_close(queue, (1, None), close=False)
    id = interp.id
    del interp
    gc.collect()
    until(lambda: id not in [i.id for i in atoll.list_all()])
    assert queue.get_nowait() is atoll.UNBOUND


def test_channels_too():
    for rule in RULES:
        recv, send = atoll.create_channel(3, unbounditems=rule)
        assert recv.unbounditems is send.unbounditems is rule
        interp = atoll.create()
        interp.prepare_main(send=send)
        interp.exec("send.send(1)")
        interp.close()
        if rule is atoll.KEEP:
            assert recv.recv_nowait() == 1
        elif rule is atoll.UNBOUND:
            assert recv.recv_nowait() is atoll.UNBOUND
        elif rule is atoll.UNBOUND_ERROR:
            with pytest.raises(atoll.ItemInterpreterDestroyed) as info:
                recv.recv_nowait()
            assert isinstance(info.value, atoll.ChannelError)
        assert recv.recv_nowait("empty") == "empty"


@pytest.mark.parametrize("rule", [5, "KEEP", object()])
def test_unknown_rules(queue, rule):
    for call in (
        lambda: atoll.create_queue(unbounditems=rule),
        lambda: atoll.create_channel(unbounditems=rule),
        lambda: queue.put(1, unbounditems=rule),
        lambda: queue.put_nowait(1, unbounditems=rule),
    ):
        with pytest.raises((NotImplementedError, TypeError, ValueError)):
            call()
    assert queue.empty()


def test_the_rules_cross_as_themselves(queue, interp):
    for rule in RULES:
        queue.put(rule)
        assert queue.get() is rule
        queue.put([rule])
        assert queue.get()[0] is rule
        assert interp.call(repr, rule) == repr(rule)
    interp.exec("import atoll")
    assert interp.call(lambda rule: rule is atoll.UNBOUND, atoll.UNBOUND)
    assert repr(atoll.UNBOUND) == "atoll.UNBOUND"
