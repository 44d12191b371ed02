"""Programs: made by hypothesis from a seed, written as scripts, read from them."""

import ast
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .base import RULES
from .world import World  # it has all the rules

assert World

HEAD = """\
# Run it with tests/py/helpers on PYTHONPATH.
from machine.world import World

if __name__ == "__main__":
"""


@dataclass(frozen=True)
class Program:
    """Steps, (name, {argument: value}) each, and how it ends."""

    seed: int | None
    steps: tuple
    leaves: bool = False

    def script(self):
        """As Python that can be run by itself."""
        lines = [f"world = World(leaves={self.leaves})"]
        for name, arguments in self.steps:
            inside = ", ".join(
                f"{key}={arguments[key]!r}" for key in RULES[name][1] if key in arguments
            )
            lines.append(f"world.{name}({inside})")
        lines.append(f"world.{'leave' if self.leaves else 'finish'}()")
        return HEAD + "".join(f"    {line}\n" for line in lines)

    def with_steps(self, steps):
        return replace(self, steps=tuple(steps))


def read(text):
    """The program that script() has written. It may have been edited."""
    steps, leaves = [], False
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        arguments = {key.arg: ast.literal_eval(key.value) for key in node.keywords}
        if isinstance(node.func, ast.Name) and node.func.id == "World":
            leaves = arguments.get("leaves", False)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in RULES:
            steps.append((node.lineno, node.func.attr, arguments))
    return Program(None, tuple(step[1:] for step in sorted(steps, key=lambda s: s[0])), leaves)


def _argument(what):
    if isinstance(what, int):
        return st.integers(0, what - 1)
    return st.sampled_from(what)


def _step(name, arguments):
    drawn = st.fixed_dictionaries({key: _argument(what) for key, what in arguments.items()})
    return st.tuples(st.just(name), drawn)


def _programs():
    kinds = {name: _step(name, arguments) for name, (_, arguments) in RULES.items()}
    weighted = [name for name, (weight, _) in RULES.items() for _ in range(weight)]
    step = st.sampled_from(weighted).flatmap(kinds.__getitem__)
    steps = st.integers(10, 30).flatmap(lambda n: st.lists(step, min_size=n, max_size=n))
    return st.tuples(steps, st.sampled_from((False,) * 9 + (True,)))


PROGRAMS = _programs()


def make(number):
    """The program of a seed. hypothesis begins with the simplest of all, so it is the
    second."""
    made = []

    @seed(number)
    @settings(
        max_examples=2, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(PROGRAMS)
    def collect(drawn):
        made.append(drawn)

    collect()
    steps, leaves = made[-1]
    return Program(number, tuple(steps), leaves)
