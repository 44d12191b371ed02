"""Ends of life of channels: retire, select, peers that are gone, and all of it by many."""

import asyncio
import gc
import pickle
import threading
import time

import atoll
import pytest
import workers
from loops import run, tasks_waiting
from support import STRESS, Task, check_python, parked, until
from test_poison import boom, is_the_boom, poisoned

# ----------------------------------------------------------------------- retire


def retired(function, *args):
    with pytest.raises(atoll.ChannelClosed, match="this end has been retired"):
        function(*args)


def test_the_last_sender_that_retires_closes():
    recv, send = atoll.create_channel(3)
    send.send(1)
    send.retire()
    send.retire()
    assert recv.is_closed
    for call in (
        lambda: send.send(2),
        lambda: send.send_nowait(2),
        lambda: send.send(2, timeout=0.1),
        lambda: run(lambda: send.send_async(2)),
        lambda: atoll.create_queue().put(send),
        lambda: pickle.dumps(send),
    ):
        retired(call)
    assert list(recv) == [1]
    with pytest.raises(atoll.ChannelClosed, match="is closed"):
        recv.recv()


def test_the_last_receiver_that_retires_closes():
    recv, send = atoll.create_channel(3)
    send.send(1)
    recv.retire()
    retired(recv.recv)
    retired(recv.recv_nowait)
    retired(lambda: recv.recv(timeout=0.1))
    retired(lambda: run(recv.recv_async))
    assert list(recv) == []
    with pytest.raises(atoll.ChannelClosed, match="is closed"):
        send.send(2)


def test_others_go_on(interp):
    recv, send = atoll.create_channel(3)
    interp.prepare_main(send=send, recv=recv)
    send.retire()
    assert not recv.is_closed
    interp.exec("send.send(1)")
    assert recv.recv() == 1
    recv.retire()
    interp.exec("send.send(2); assert recv.recv() == 2; send.retire()")
    interp.exec("assert recv.is_closed")


def test_a_retired_end_has_no_say(interp):
    """What its party does on its way out concerns nobody any more."""
    recv, send = atoll.create_channel(3)
    interp.prepare_main(send=send)
    with send:
        send.retire()
    assert not recv.is_closed
    send.close()
    assert send.poison(boom()) == 0
    with pytest.raises(ValueError), atoll.poison_on_exit(send):
        raise ValueError
    assert not recv.is_closed
    interp.exec("send.send(1)")
    assert recv.recv() == 1
    del send
    gc.collect()
    assert not recv.is_closed
    interp.exec("del send")
    assert recv.is_closed


def test_a_new_handle_makes_it_usable_again(interp):
    recv, send = atoll.create_channel(3)
    interp.prepare_main(send=send, recv=recv)
    for _ in range(3):
        send.retire()
        recv.retire()
        retired(send.send, 1)
        retired(recv.recv)
        assert interp.call(workers.give, 1) == 1
        queue = atoll.create_queue()
        interp.prepare_main(queue=queue)
        interp.exec("queue.put((recv, send))")
        again_recv, again_send = queue.get()
        assert again_send is send and again_recv is recv
        send.send("again")
        assert recv.recv() == "again"
    send.retire()
    interp.exec("send.retire()")
    assert recv.is_closed


def test_listing_revives_nothing(interp):
    recv, send = atoll.create_channel(3)
    interp.prepare_main(send=send)
    send.retire()
    pairs = [pair for pair in atoll.list_channels() if pair[0] is recv]
    assert len(pairs) == 1
    assert pairs[0][1] is send
    retired(send.send, 1)
    interp.exec("del send")
    assert recv.is_closed


def test_retiring_wakes_those_who_wait():
    recv, send = atoll.create_channel()
    waiters = [parked(recv.recv) for _ in range(3)]
    send.retire()
    for waiter in waiters:
        with pytest.raises(atoll.ChannelClosed, match="is closed"):
            waiter.result()

    recv, send = atoll.create_channel()
    waiters = [parked(send.send, 1) for _ in range(3)]
    recv.retire()
    for waiter in waiters:
        with pytest.raises(atoll.ChannelClosed, match="is closed"):
            waiter.result()


def test_a_call_that_waits_goes_on(interp):
    recv, send = atoll.create_channel()
    interp.prepare_main(send=send)
    waiter = parked(send.send, "still")
    send.retire()
    assert recv.recv() == "still"
    waiter.result()


# ----------------------------------------------------------------------- select


def test_select_meets_poison():
    quiet, _quiet_send = atoll.create_channel()
    recv, send = atoll.create_channel()
    waiter = parked(atoll.select, quiet, recv)
    send.poison(boom())
    error = poisoned(waiter.result)
    assert is_the_boom(error)
    assert error.case == 1
    error = poisoned(atoll.select, (send, 1), quiet)
    assert is_the_boom(error)
    assert error.case == 0

    async def main():
        recv, send = atoll.create_channel()
        (task,) = await tasks_waiting(atoll.select_async(quiet, recv))
        send.poison(boom())
        with pytest.raises(atoll.ChannelPoisoned) as info:
            await task
        assert is_the_boom(info.value)
        assert info.value.case == 1

    run(main)


def test_select_with_a_retired_end(interp):
    quiet, _quiet_send = atoll.create_channel()
    recv, send = atoll.create_channel(1)
    interp.prepare_main(recv=recv, send=send)
    send.retire()
    recv.retire()
    for case in (recv, (send, 1)):
        with pytest.raises(atoll.ChannelClosed, match="retired") as info:
            atoll.select(quiet, case)
        assert info.value.case == 1
        with pytest.raises(atoll.ChannelClosed, match="retired"):
            run(lambda case=case: atoll.select_async(quiet, case))


def test_select_a_timer():
    recv, send = atoll.create_channel()
    begin = time.monotonic()
    index, when = atoll.select(recv, atoll.after(0.02))
    assert index == 1
    assert when >= begin + 0.02
    ticker = atoll.ticker(0.002)
    for _ in range(5):
        assert atoll.select(ticker, recv)[0] == 0
    ticker.close()


# ------------------------------------------------------------ peers that are gone


def closed_in(function, *args):
    with pytest.raises(atoll.ChannelClosed):
        function(*args)


def test_receiver_is_told_that_the_last_senders_interpreter_is_gone():
    recv, send = atoll.create_channel()
    with atoll.create() as interp:
        interp.prepare_main(send=send)
        del send
        gc.collect()
        waiter = parked(recv.recv)
        interp.exec("")
        assert not recv.is_closed
    closed_in(waiter.result)


def test_sender_is_told_that_the_last_receivers_interpreter_is_gone():
    recv, send = atoll.create_channel()
    with atoll.create() as interp:
        interp.prepare_main(recv=recv)
        del recv
        gc.collect()
        waiter = parked(send.send, 1)
        assert not send.is_closed
    closed_in(waiter.result)


def test_coroutines_are_told_that_an_interpreter_is_gone():
    async def main():
        recv, send = atoll.create_channel()
        recv2, send2 = atoll.create_channel()
        interp = atoll.create()
        interp.prepare_main(send=send, recv=recv2)
        del send, recv2
        gc.collect()
        tasks = await tasks_waiting(recv.recv_async(), send2.send_async(1), anext(recv))
        await asyncio.to_thread(interp.close)
        for task, error in zip(
            tasks, (atoll.ChannelClosed, atoll.ChannelClosed, StopAsyncIteration), strict=True
        ):
            with pytest.raises(error):
                await task

    run(main)


def drain(recv):
    return list(recv)


def test_ends_of_an_interpreter_that_waits_for_us(interp):
    """The other way round: the party there is told when ours goes."""
    recv, send = atoll.create_channel()
    waiter = parked(interp.call, drain, recv)
    del recv
    send.retire()
    assert waiter.result() == []


@pytest.mark.parametrize("waits", ["recv", "send"])
def test_an_end_in_a_message_that_nobody_received(waits):
    """The message counts as a party; dropped, it leaves."""
    recv, send = atoll.create_channel()
    queue_recv, queue_send = atoll.create_channel(5)
    queue_send.send(send if waits == "recv" else recv)
    if waits == "recv":
        del send
        gc.collect()
        waiter = parked(recv.recv)
        assert not recv.is_closed
    else:
        del recv
        gc.collect()
        waiter = parked(send.send, 1)
        assert not send.is_closed
    del queue_recv
    gc.collect()
    closed_in(waiter.result)
    with pytest.raises(atoll.ChannelClosed):
        queue_send.send(1)


def test_an_end_in_a_message_that_poison_drops():
    recv, send = atoll.create_channel()
    queue_recv, queue_send = atoll.create_channel(5)
    queue_send.send([send, {"also": send}])
    send.retire()

    async def main():
        (task,) = await tasks_waiting(recv.recv_async())
        assert queue_recv.poison() == 1
        with pytest.raises(atoll.ChannelClosed):
            await task

    run(main)


def test_an_end_in_a_message_of_a_closed_interpreter(interp):
    """Its sender is gone, the message stays, and so does the end in it."""
    recv, send = atoll.create_channel(1)
    queue = atoll.create_queue()
    interp.prepare_main(queue=queue, send=send)
    interp.exec("queue.put(send)")
    del send
    gc.collect()
    waiter = parked(recv.recv)
    interp.close()
    assert not recv.is_closed
    send = queue.get()
    send.send("here I am")
    assert waiter.result() == "here I am"


# ------------------------------------------------------------------------- many


@pytest.mark.alone
def test_a_thousand_threads():
    """close() wakes them all; the figure is in the test's output."""
    count = 1000
    best = float("inf")
    size = threading.stack_size(256 * 1024)
    try:
        for attempt in range(12):
            if attempt > 2 and best < 0.25:
                break  # the machine has been quiet for a moment
            recv, send = atoll.create_channel()
            woken = []
            before = atoll.stats()["parks"]

            def wait(n, recv=recv, woken=woken):
                try:
                    recv.recv()
                except atoll.ChannelError:
                    woken.append((time.perf_counter(), n))

            threads = [
                threading.Thread(target=wait, args=(n,), daemon=True) for n in range(count)
            ]
            for thread in threads:
                thread.start()
            until(lambda before=before: atoll.stats()["parks"] >= before + count, 60)
            begin = time.perf_counter()
            if attempt != 2:
                send.close()
            else:
                send.poison()
            told = time.perf_counter() - begin
            for thread in threads:
                thread.join(60)
            assert len(woken) == count
            last = max(woken)[0] - begin
            print(
                f"{count} threads: told in {told * 1e3:.1f} ms, "
                f"the last one runs after {last * 1e3:.1f} ms"
            )
            best = min(best, last)
    finally:
        threading.stack_size(size)
    assert best < 0.25  # 1,000 times the GIL, on a machine that may be busy


def test_a_thousand_coroutines():
    count = 1000

    async def main():
        recv, send = atoll.create_channel()
        order = []

        async def wait(n):
            with pytest.raises(atoll.ChannelClosed):
                await recv.recv_async()
            order.append(n)

        tasks = await tasks_waiting(*(wait(n) for n in range(count)))
        begin = time.perf_counter()
        send.close()
        await asyncio.wait(tasks)
        took = time.perf_counter() - begin
        for task in tasks:
            task.result()
        assert order == list(range(count))  # first come, first woken
        print(f"{count} coroutines: the last one runs after {took * 1e3:.1f} ms")
        return took

    assert min(run(main) for _ in range(3)) < 0.25


def test_poison_against_everything():
    """Whatever happens at the same time: all are told, nobody hangs."""
    for n in range(60 * STRESS):
        recv, send = atoll.create_channel(n % 3)

        def sender(send=send):
            while True:
                send.send(1)

        def receiver(recv=recv):
            while True:
                recv.recv()

        tasks = [Task(sender), Task(sender), Task(receiver), Task(receiver)]
        killers = [Task(send.poison, boom()), Task(recv.poison, boom()), Task(recv.close)]
        for killer in killers:
            killer.result()
        for task in tasks:
            with pytest.raises(atoll.ChannelError):
                task.result()
        assert is_the_boom(poisoned(recv.recv))


def test_fork():
    check_python(
        """
        import os, warnings
        import atoll
        warnings.simplefilter("ignore")
        recv, send = atoll.create_channel(2)
        other_recv, other = atoll.create_channel(2)
        other.poison(ValueError("x"))
        send.send(1)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert send.poison(ValueError()) == 0
                for end in (recv, other_recv):
                    try: end.recv()
                    except atoll.ForkedError: pass
                send.retire()
                del recv, send, other, other_recv
                recv, send = atoll.create_channel()
                send.poison()
                try: recv.recv()
                except atoll.ChannelPoisoned: code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert recv.recv() == 1
        """
    )
