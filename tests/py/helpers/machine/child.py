"""A process that runs programs one after the other: python -m machine.child FILE.

What it runs it says on descriptor 1, so that whoever reads that knows where it has died.
"""

import faulthandler
import json
import os
import sys
import traceback

import atoll

from .base import say
from .process import Forked
from .world import World

DEBUG_BUILD = hasattr(sys, "gettotalrefcount")


def run(steps, leaves):
    world = World(leaves)
    try:
        for number, (name, arguments) in enumerate(steps):
            say(f"step {number} {name} {arguments}")
            getattr(world, name)(**arguments)
        if leaves:
            say("leaves")
            world.leave()
            return world
        say("finish")
        world.finish()
        world = None
    except Forked:
        raise
    except BaseException:
        text = traceback.format_exc()
        if world is not None and world.__dict__.get("in_child"):
            text = f"in the child of a fork: {text}"
        os.write(2, text.encode())
        faulthandler.dump_traceback_later(20, exit=True)
        os.write(2, atoll.dump().encode())
        os._exit(3)
    return None


def main(path):
    with open(path) as file:
        programs = json.load(file)
    for seed, steps, leaves in programs:
        say(f"program {seed}")
        os.write(2, b"@ program\n")
        left = run(steps, leaves and not DEBUG_BUILD)
        if left is not None:
            return left
        say("ok")
    return None


if __name__ == "__main__":
    faulthandler.enable()
    left = main(sys.argv[1])
    faulthandler.cancel_dump_traceback_later()
