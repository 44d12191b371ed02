# What the handler of a signal raised while a future's result was being decoded became the
# outcome of that future.
# Run it with tests/py/helpers on PYTHONPATH.
from machine.world import World

if __name__ == "__main__":
    world = World(leaves=False)
    world.guard(venue="pool", where=0, lock=0, rounds=20)
    world.result_alarmed(act=0, delay=0.0005)
    world.do(venue="pool", where=0, name="big", timeout=None)
    world.result_alarmed(act=1, delay=0.005)
    world.do(venue="spawn", where=0, name="wrong", timeout=None)
    world.result_alarmed(act=2, delay=0.005)
    world.consume(venue="pool", where=0, line=0, limit=3)
    world.result_alarmed(act=3, delay=0.003)
    world.finish()
