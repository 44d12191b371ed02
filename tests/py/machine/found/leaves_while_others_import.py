# Interpreters that main left behind at exit went on while CPython was taken apart; an
# import there crashed the process.
# Run it with tests/py/helpers on PYTHONPATH.
from machine.world import World

if __name__ == "__main__":
    world = World(leaves=True)
    world.do(venue="submit", where=0, name="imports", timeout=None)
    world.do(venue="pool", where=0, name="imports", timeout=None)
    world.do(venue="spawn", where=0, name="daemon", timeout=None)
    world.do(venue="submit", where=0, name="spins", timeout=None)
    world.do(venue="spawn", where=0, name="imports", timeout=None)
    world.do(venue="spawn", where=0, name="stubborn", timeout=None)
    world.leave()
