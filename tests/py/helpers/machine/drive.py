"""Runs programs in children, finds those that fail, and makes them small."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import program as programs
from .base import PATIENCE

HELPERS = Path(__file__).resolve().parents[1]

#: What a process may say. Asyncio's own words are those of an interrupt that came in the
#: middle of asyncio, which is let through after a tenth of a second.
EXPECTED = re.compile(
    r"""^(
    atoll:.interpreter.\d+.'.*'.could.not.be.closed.and.is.left.to.itself,.with.what.still
        .runs.in.it:.*
    | atoll:.*:.\d+.running.and.\d+.queued.tasks.are.stopped,.*.after.the.end.of.the.program;
        .shutdown\(\).or.join\(\).would.have.waited.for.(it|them)
    | <sys>:0:.RuntimeWarning:.coroutine
        .'(_coroutines|sleep|BaseEventLoop\.shutdown_\w+)'.was.never.awaited
        (\nRuntimeWarning:.Enable.tracemalloc.to.get.*)?
    | Task.exception.was.never.retrieved\nfuture:.<Task.finished.*coro=<_one\(\).*
        \nTraceback.*(\n\ \ File.*|\n\ \ \ \ .*)*\natoll\.errors\.\w+:.*
    | Exception.ignored.while.calling.deallocator.<function.BaseEventLoop.__del__.*
        (\nTraceback.*|\n\ \ File.*|\n\ \ \ \ .*)*\nAttributeError:.*_ssock'
    )\n""",
    re.VERBOSE | re.MULTILINE,
)


@dataclass
class Failure:
    """A program that did not do what it had to, and what was seen."""

    program: programs.Program
    before: list  # the programs that had run in the process
    why: str
    said: str
    flags: list = field(default_factory=list)

    def kind(self):
        """What failures of the same cause have in common."""
        lines = [line for line in self.why.splitlines() if line.strip()]
        broken = [line for line in lines if "Broken:" in line]
        return re.sub(r"\d+", "N", (broken or lines or ["?"])[0])[:60]

    def report(self):
        lines = self.said.splitlines()
        steps = [line for line in lines if line.startswith(("step", "finish", "leaves"))]
        return (
            f"{self.why}\n--- it had come to: {steps[-1] if steps else 'nothing'}\n"
            f"--- seed {self.program.seed}, {len(self.before)} programs before it:"
            f" {[one.seed for one in self.before]}\n{self.program.script()}"
        )


def environment():
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**env, "PYTHONPATH": str(HELPERS), "PYTHONDONTWRITEBYTECODE": "1",
            "ATOLL_SPARES": env.get("ATOLL_SPARES", "0")}  # fmt: skip


def run(batch, flags=()):
    """Run programs in one process. Returns how many were right, and a Failure or None."""
    with tempfile.TemporaryDirectory() as folder:
        path, out, err = (os.path.join(folder, name) for name in ("programs", "out", "err"))
        with open(path, "w") as file:
            json.dump([[one.seed, one.steps, one.leaves] for one in batch], file)
        argv = [sys.executable, "-W", "ignore::ResourceWarning", *flags, "-m", "machine.child",
                path]  # fmt: skip
        with open(out, "wb") as out_file, open(err, "wb") as err_file:
            child = subprocess.Popen(
                argv, stdout=out_file, stderr=err_file, stdin=subprocess.DEVNULL,
                env=environment(), start_new_session=True,
            )  # fmt: skip
            hung = watch(child, out)
        said = Path(out).read_text(errors="replace")
        errors = Path(err).read_text(errors="replace")
    parts = errors.split("@ program\n")
    bad = [number for number, part in enumerate(parts) if unexpected(part)]
    if child.returncode == 0 and not bad and not hung:
        return len(batch), None
    number = bad[0] if child.returncode == 0 and bad else len(parts) - 1
    number = max(number - 1, 0)  # what is before the first
    why = "\n".join(line for part in parts for line in unexpected(part))
    if hung or child.returncode:
        why = f"{'hangs' if hung else f'status {child.returncode}'}\n{why}"
    last = said[said.rfind("program ") :]
    return number, Failure(batch[number], list(batch[:number]), why, last, list(flags))


def unexpected(text):
    return EXPECTED.sub("", text).splitlines()


def watch(child, out):
    """Until it ends. True if it was killed, since nothing had come from it for long."""
    size, since = -1, time.monotonic()
    patience = 1.5 * PATIENCE  # of what hangs the child itself says more
    while True:
        try:
            child.wait(1)
            return False
        except subprocess.TimeoutExpired:
            pass
        now = os.path.getsize(out)
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            child.send_signal(signal.SIGABRT)  # faulthandler prints the stacks
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            return True


def batches(seeds, size, without=()):
    """Programs of these seeds; one that leaves is the last of its process."""
    batch = []
    for seed in seeds:
        one = programs.make(seed)
        words = [{name, *map(str, values.values())} for name, values in one.steps]
        steps = [step for step, word in zip(one.steps, words, strict=True)
                 if not word & set(without)]  # fmt: skip
        batch.append(one.with_steps(steps))
        if len(batch) == size or batch[-1].leaves:
            yield batch
            batch = []
    if batch:
        yield batch


def narrow(failure, tries=4, seconds=120):
    """A smaller program that fails in the same way, as far as the time goes. Steps are
    left out one by one, from large parts to small ones; races are tried again."""
    end = time.monotonic() + seconds
    kind = failure.kind()

    def fails(one, times):
        for _ in range(times):
            if time.monotonic() > end:
                return None
            _, found = run([one], failure.flags)
            if found is not None and found.kind() == kind:
                return found
        return None

    best = fails(failure.program, 3 * tries)
    if best is None:
        return failure  # it needs those before it, or much luck
    size = max(len(best.program.steps) // 2, 1)
    while size:
        at = 0
        while at < len(best.program.steps) and time.monotonic() < end:
            steps = best.program.steps
            less = best.program.with_steps(steps[:at] + steps[at + size :])
            smaller = fails(less, tries)
            if smaller is None:
                at += size
            else:
                best = smaller
        size //= 2
    return best
