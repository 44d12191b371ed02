"""Classes for test_dict_layout.py, and what their instances do on the way."""

from dataclasses import dataclass


@dataclass
class Point:
    x: object
    y: object
    z: object = 0


class Bag:
    """Takes any attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Grown:
    """Its attributes are set one by one, so that the keys are shared."""

    def __init__(self, names):
        for name in names:
            setattr(self, name, name.upper())


class Checked:
    """A property is in the way of setting `value` directly."""

    def __init__(self, value):
        self.__dict__["value"] = value

    @property
    def value(self):
        return self.__dict__["value"]

    @value.setter
    def value(self, value):
        raise AssertionError("the setter is not to be called")


class Slotted:
    __slots__ = ("x", "__dict__")

    def __init__(self, x, y):
        self.x = x
        self.y = y


class Alike:
    """Equal hashes, so that keys are compared."""

    def __init__(self, n):
        self.n = n

    def __hash__(self):
        return 5

    def __eq__(self, other):
        return isinstance(other, Alike) and other.n == self.n


class Meddling:
    """Runs `action` when it is taken apart; arrives as None."""

    def __init__(self, action):
        self.action = action

    def __reduce__(self):
        self.action()
        return nothing, ()


def nothing():
    return None


class Visitor:
    """Does something to `target` when it is rebuilt, in a cycle."""

    def __init__(self, target, deed):
        self.target = target
        self.deed = deed

    def __getstate__(self):
        return [self.target, self.deed]

    def __setstate__(self, state):
        target, deed = state
        self.target = target
        self.deed = deed
        self.saw = dict(target) if isinstance(target, dict) else dict(vars(target))
        DEEDS[deed](target)


def other_dict(obj):
    obj.__dict__ = dict(obj.__dict__, other=1)


DEEDS = {
    "look": lambda target: None,
    "vars": vars,
    "insert": lambda target: target.update(own=1),
    "set": lambda target: setattr(target, "own", 1),
    "replace": other_dict,
    "class": lambda target: setattr(target, "__class__", Bag),
    "delete": lambda target: [delattr(target, name) for name in list(vars(target))],
}


class Explosive:
    """Cannot be rebuilt."""

    def __reduce__(self):
        return explode, ()


def explode():
    raise ValueError("boom")


def facts(obj):
    """What can be told about dicts where they have arrived."""
    return sum(obj.values()), list(obj)[:3], len(obj)
