"""Objects whose own code misbehaves while they are sent or received."""

import gc

#: What the next object that arrives is to do: a function of one argument.
trap = None


class Trapped:
    """Runs the trap when it is rebuilt, with the state that it was sent with."""

    def __init__(self, state=None):
        self.state = state

    def __getstate__(self):
        return {"state": vars(self).get("state")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        if trap is not None:
            trap(self.state)


class Key:
    """Hash and equality run the trap, once it is set."""

    def __init__(self, n):
        self.n = n

    def __hash__(self):
        if trap is not None:
            trap(self)
        return 7

    def __eq__(self, other):
        if trap is not None:
            trap(self)
        return self.n == other.n


class Reducing:
    """Runs a function when it is sent, and arrives as 0."""

    def __init__(self, action):
        self.action = action

    def __reduce__(self):
        self.action()
        return int, ()


class Refusing:
    def __reduce__(self):
        raise TypeError("refused")

    def __repr__(self):
        raise LookupError("no repr either")


class Deleted:
    """Uses a queue when it dies."""

    def __init__(self, queue):
        self.queue = queue

    def __del__(self):
        self.queue.put([self.queue.id])
        self.queue.get()
        gc.collect()


class Holder:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner


def refuse(obj):
    raise LookupError("not here")
