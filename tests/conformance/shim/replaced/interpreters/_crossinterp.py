"""concurrent.interpreters._crossinterp with atoll's objects."""

from atoll import UNBOUND, UNBOUND_ERROR, UNBOUND_REMOVE, ItemInterpreterDestroyed

__all__ = ["UNBOUND", "UNBOUND_ERROR", "UNBOUND_REMOVE", "ItemInterpreterDestroyed"]

# test_queues looks one up when it is imported; the numbers are the same.
_UNBOUND_CONSTANT_TO_FLAG = {
    rule: rule._rule for rule in (UNBOUND_REMOVE, UNBOUND_ERROR, UNBOUND)
}
