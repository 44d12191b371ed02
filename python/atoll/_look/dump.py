"""What goes on in this process: dump, dump_on_signal, detect_deadlocks,
show_to_tools."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import defaultdict

from .. import _core
from .._check import check_file, check_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType
    from typing import TextIO

    from ..interpreter import Interpreter

__all__ = ["detect_deadlocks", "dump", "dump_on_signal", "show_to_tools"]

_FILE = "a text file or None"


def dump(file: TextIO | None = None, *, stacks: bool = True) -> str | None:
    """Say what every interpreter, thread, task, queue and channel of this process does.

    For people, and for programs that hang: which threads wait in atoll, since when,
    for how long, and for what; who holds the ends of each channel; the Python stack
    of each thread, in all interpreters that use atoll.

    An interpreter that computes is looked into within some milliseconds. One that is
    inside a long call of C code keeps its GIL; after 0.2 s its stacks are left out.
    Nothing is changed and no code runs there. With many of these it takes 2 s in all,
    and 20 ms for each one beyond.

    Args:
      file (TextIO | None): where to write it; None returns it.
      stacks (bool): with the stacks; without, nobody is waited for.
    Returns:
      the text (str), or None if it was written.
    """
    if file is not None:
        check_file(file, _FILE)
    text = "\n".join(_lines(stacks)) + "\n"
    if file is None:
        return text
    file.write(text)
    file.flush()
    return None


def dump_on_signal(
    signum: int = signal.SIGUSR1, file: TextIO | None = None, *, stacks: bool = True
) -> None:
    """Have dump() written whenever the signal `signum` (int) comes.

    Python's main thread does it, when it comes to its next bytecode: at once if it
    computes, sleeps, or waits in atoll. `file` (TextIO | None) is where to; None is
    what sys.stderr is then. The handler that was set before is not called any more.
    Only in the main thread of the main interpreter; ValueError elsewhere.
    """
    if _core_is_elsewhere():
        raise ValueError("dump_on_signal() works in the main interpreter only")
    signum = check_int(signum, "signum")
    if file is not None:
        check_file(file, _FILE)

    def handler(number: int, frame: FrameType | None) -> None:
        dump(sys.stderr if file is None else file, stacks=stacks)

    signal.signal(signum, handler)
    # It wakes nobody: who waits for ever still does, for the detection of deadlocks.
    _core._set_dump_handler(handler)


def show_to_tools(interp: Interpreter) -> None:
    """Have tools that see one interpreter of a process see this one.

    py-spy, `python -m pdb -p PID` and sys.remote_exec(), and debuggers that attach to a
    process, take the interpreter that comes first in a list of CPython's for the program.
    That is main as long as nobody calls this, and again when `interp` has ended. Tools
    that see all interpreters (austin, pystack, gdb) still do.

    Args:
      interp (Interpreter): of this process, also main, or one that atoll did not make.

    Does not block. Raises InterpreterNotFoundError if it has ended, and RuntimeError in a
    version of CPython whose list is not known.
    """
    done = _core._show(interp.id)
    if done is None:
        raise RuntimeError("atoll does not know the list of interpreters of this CPython")
    if not done:
        from ..errors import InterpreterNotFoundError

        raise InterpreterNotFoundError(f"interpreter {interp.id} not found")


def detect_deadlocks(on: bool | None = True) -> bool:
    """Whether waits that nobody is left to end are ended with DeadlockError.

    When nobody is left who could end a wait, since all of them wait in atoll, there
    is an error in the program, and without this it hangs. It is always looked for in
    what tasks of spawn() and TaskGroup wait for. With ``detect_deadlocks()``, or
    ATOLL_DETECT_DEADLOCKS=1 in the environment, also in all other waits that begin
    from then on, in all interpreters.

    Args:
      on (bool | None): on, or off; None only asks.
    Returns:
      bool: what it was before.
    """
    return _core._detect_deadlocks(on)


def _core_is_elsewhere() -> bool:
    from ..interpreter import get_current, get_main

    return get_current().id != get_main().id


def _time(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 1 else f"{seconds:.1f} s"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _lines(stacks: bool) -> Iterator[str]:
    parties, waits, holds, pools, queues, channels = _core._survey(stacks)
    numbers = ", ".join(
        (
            _count(len(parties), "interpreter"),
            _count(len(pools), "pool"),
            _count(len(queues), "queue"),
            _count(len(channels), "channel"),
            _count(len(waits), "waiting thread"),
        )
    )
    yield f"atoll: process {os.getpid()}: {numbers}"
    by_thread = {(wait[0], wait[1]): wait for wait in waits}
    tasks: dict[int, tuple[str, float | None]] = {
        worker[0]: (pool[0], worker[1])
        for pool in pools
        for worker in pool[6]
        if worker[1] is not None
    }
    for party in sorted(parties):
        yield ""
        yield from _interpreter(party, by_thread, tasks, stacks)
    for wait in by_thread.values():  # of those whose threads could not be seen
        yield f"  thread {wait[1]:#x} {_waits(wait)} (interpreter {wait[0]})"
    yield from _foreign({party[0] for party in parties})
    if pools:
        yield ""
        yield "pools"
        for pool in reversed(pools):
            yield from _pool(pool)
    yield from _channels(queues, channels, holds)


def _interpreter(
    party: _core._Party,
    by_thread: dict[tuple[int, int], _core._Wait],
    tasks: dict[int, tuple[str, float | None]],
    stacks: bool,
) -> Iterator[str]:
    id, is_main, name, state, threads, reason = party
    line = f"interpreter {id}"
    if is_main:
        line += " (main)"
    elif name:
        line += f" {name!r}"
    if state:
        line += f": {state}"
    if id in tasks:
        pool, since = tasks[id]
        line += f" a task of pool {pool!r}, for {_time(since or 0)}"
    if stacks and reason is not None:
        line += f"; {reason}"
    yield line
    for ident, thread, frames in threads:
        line = f"  thread {ident:#x}" + (f" {thread!r}" if thread else "")
        wait = by_thread.pop((id, ident), None)
        if wait is not None:
            line += f" {_waits(wait)}"
        elif ident == threading.get_ident() and "in dump\n" in frames:
            line += " (this dump)"
        yield line
        yield from frames.splitlines()
    for key in [key for key in by_thread if key[0] == id]:
        wait = by_thread.pop(key)
        yield f"  thread {wait[1]:#x} {_waits(wait)}"


def _waits(wait: _core._Wait) -> str:
    _, _, since, left, what = wait
    limit = "for ever" if left is None else f"for {_time(max(0.0, left))} more"
    return f"waits for {what}, since {_time(since)}, {limit}"


def _foreign(known: set[int]) -> Iterator[str]:
    """Interpreters that do not use atoll are not looked into."""
    import _interpreters

    for entry in _interpreters.list_all():
        if entry[0] not in known:
            yield ""
            yield f"interpreter {entry[0]}: it has not imported atoll"


def _pool(pool: _core._PoolRow) -> Iterator[str]:
    name, pending, places, strays, closed, fixed, workers = pool
    busy = sum(worker[1] is not None for worker in workers)
    line = f"  {'interpreter' if fixed else 'pool'} {name!r}: "
    line += f"{pending} queued, {busy} running, {_count(places, 'place')}"
    if strays:
        line += f", {strays} left to themselves"
    yield line + (", closed" if closed else "")
    for id, runs, done in workers:
        who = "a new interpreter" if id < 0 else f"interpreter {id}"
        what = "idle" if runs is None else f"runs a task for {_time(runs)}"
        yield f"    {who}: {what}, {_count(done, 'task')} done"


def _holders(ids: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(ids))) or "none"


def _channels(
    queues: list[_core._ChanRow], channels: list[_core._ChanRow], holds: list[_core._Hold]
) -> Iterator[str]:
    by: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for id, chan, side in holds:
        by[chan, side].append(id)
    if queues or channels:
        yield ""
        yield "queues and channels"
    for queue in queues:
        mine = by[queue[0], "queue"]
        elsewhere = queue[6] - len(mine)
        yield _chan("queue", queue) + f"; held by interpreters {_holders(mine)}" + _more(
            elsewhere
        )
    for channel in channels:
        send, recv = by[channel[0], "send"], by[channel[0], "recv"]
        to, fro = channel[5][0] - len(recv), channel[5][1] - len(send)
        yield (
            _chan("channel", channel)
            + f"; senders: interpreters {_holders(send)}{_more(fro)}"
            + f"; receivers: interpreters {_holders(recv)}{_more(to)}"
        )


def _more(count: int) -> str:
    return f" and {count} in messages or elsewhere" if count > 0 else ""


def _chan(what: str, row: _core._ChanRow) -> str:
    id, capacity, length, closed, (receiving, sending), _, _ = row
    line = f"  {what} {id}: {length} of "
    line += "any number" if capacity is None else str(capacity)
    if closed:
        line += ", closed"
    if receiving:
        line += f", {receiving} waiting to receive"
    if sending:
        line += f", {sending} waiting to send"
    return line
