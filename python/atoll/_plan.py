"""What makes an interpreter: its name, how it imports, what it takes over from here."""

from __future__ import annotations

import marshal
import sys

from ._check import check_tuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

try:
    import faulthandler
except ImportError:  # in an interpreter of the standard library's
    pass
else:
    from ._look.faults import mend

    mend(faulthandler)  # from now on there are others


def check_name(name: object, what: str = "name") -> str:
    if name is None:
        return ""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {type(name).__name__}")
    return name


def is_isolated(extensions: object) -> bool:
    if extensions not in ("isolate", "strict"):
        raise ValueError(f"extensions must be 'isolate' or 'strict', not {extensions!r}")
    return extensions == "isolate"


def make_setup(
    preload: Iterable[str] = (), follow: bool | Iterable[str] = True
) -> tuple[tuple[object, ...], bytes]:
    """What a new interpreter takes over from this one: for _core._create, Pool.

    And a key that is the same whenever that is.
    """
    deaf = 0
    if follow is not True:
        from ._follow import parse

        deaf = parse(follow)
    if isinstance(preload, str):
        raise TypeError("preload must be a sequence of module names, not one str")
    names = check_tuple(preload, "preload")
    for module in names:
        if not isinstance(module, str):
            raise TypeError(f"preload must contain names of modules, not {module!r}")
    path = tuple(str(entry) for entry in sys.path if isinstance(entry, str))
    inherited: tuple[tuple[str, str, str], ...] = ()
    if "atoll._cross.registry" in sys.modules or "atoll._cross.frozen" in sys.modules:
        from ._cross import registry as _registry

        inherited = _registry.inherited()
    setup = (path, inherited, _streams(), logging_levels(), names, deaf, _coverage())
    return setup, marshal.dumps(setup, 2)  # type: ignore[arg-type]


def _coverage() -> str | None:
    """What coverage measures here, if it does."""
    if "coverage" not in sys.modules:
        return None
    from ._look.coverage import configuration

    return configuration()


# As logging is when nobody has set anything: nothing disabled, WARNING.
_USUAL_LEVELS = (0, 30)


def _streams() -> tuple[object, ...]:
    """What a new interpreter's streams take after, for _output.stream."""
    return tuple(
        (
            _ask(file, "fileno", int),
            _ask(file, "isatty", bool),
            _ask(file, "encoding", str),
            _ask(file, "errors", str),
        )
        for file in (getattr(sys, "stdout", None), getattr(sys, "stderr", None))
    )


def logging_levels() -> tuple[Any, ...] | None:
    """The levels of logging here, for _output.logging: (disable, root's level, (name,
    level), ...); None if nobody has set any."""
    # The module that is there, if any: importing it takes longer than atoll.
    logging = sys.modules.get("logging")
    root = getattr(logging, "root", None)
    if root is None:
        stream = sys.modules.get("atoll._output.stream")
        return getattr(stream, "logging_levels", None)
    loggers = list(root.manager.loggerDict.items())
    levels = [(name, _ask(logger, "level", int)) for name, logger in loggers]
    levels = [(name, level) for name, level in levels if level]
    found = (int(root.manager.disable), int(root.level), *levels)
    return None if found == _USUAL_LEVELS else found


def _ask(obj: object, name: str, cls: Callable[[Any], object]) -> Any:
    """The attribute, or what the method of that name says; None without."""
    try:
        value = getattr(obj, name)
        if callable(value):
            value = value()
        return None if value is None else cls(value)
    except Exception:
        return None
