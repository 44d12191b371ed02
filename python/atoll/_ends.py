"""What goes with the ends of channels: poison_on_exit."""

from __future__ import annotations

from ._core import RecvChannel, SendChannel

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself takes too long to import
    from types import TracebackType
    from typing import Self


class poison_on_exit:
    """``with poison_on_exit(*ends):`` passes an error on to those who wait for us.

    If the block ends with an exception, whichever it is, all these channels are
    poisoned with it, and it is raised as usual. A ChannelPoisoned passes on its own
    reason: so a network of parties dies of one error, and each sees that one. If
    the block ends without, nothing happens. In coroutines also ``async with``.

    Args:
      ends (SendChannel | RecvChannel): either end of each channel.
    Raises:
      TypeError: one of them is something else.
    """

    __slots__ = ("_ends",)

    def __init__(self, *ends: SendChannel | RecvChannel) -> None:
        for end in ends:
            if not isinstance(end, SendChannel | RecvChannel):
                raise TypeError(
                    "poison_on_exit() takes ends of channels, "
                    f"not {type(end).__name__}"
                )
        self._ends = ends

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            _poison(self._ends, exc)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        cls: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(cls, exc, traceback)


def _poison(ends: tuple[SendChannel | RecvChannel, ...], exc: BaseException) -> None:
    """All of them, even if an interrupt comes between two."""
    left = iter(ends)
    try:
        for end in left:
            end.poison(exc)
    finally:
        for end in left:
            end.poison(exc)
