# What select() raised for an item whose interpreter had ended did not say which case.
# Run it with tests/py/helpers on PYTHONPATH.
from machine.world import World

if __name__ == "__main__":
    world = World(leaves=False)
    world.create_queue(maxsize=0)
    world.create_queue(maxsize=0)
    world.produce(
        venue="spawn", where=0, line=0, count=3, kind="small", orphans="UNBOUND_ERROR",
        retire=False,
    )  # fmt: skip
    world.settle()
    world.choose(venue="thread", where=0, line=1, other=0, limit=10)
    world.choose(venue="pool", where=0, line=0, other=1, limit=10)
    world.finish()
