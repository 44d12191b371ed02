"""Log records of interpreters, handled by main's loggers.

connect() runs in an interpreter of atoll's when it imports logging, handle()
in main.
"""

from __future__ import annotations

import _interpreters
import functools
import logging
import marshal
import sys

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What a record is made of here and there, beside the message.
_PLAIN = (int, float, str, bytes, bool, type(None))


class _Forward(logging.Handler):
    """logging.lastResort of an interpreter: for what nobody else handles.

    Where the code there has put another file in the place of its sys.stderr, with
    contextlib.redirect_stderr say, logging's own takes it, which writes to that.
    """

    def __init__(self, stream: object, own: logging.Handler | None) -> None:
        super().__init__(logging.NOTSET)
        self._stream = stream
        self._own = own

    def emit(self, record: logging.LogRecord) -> None:
        own = self._own
        if sys.stderr is not self._stream and own is not None:
            if record.levelno >= own.level:
                own.handle(record)
            return
        try:
            fields = dict(record.__dict__)
            fields["msg"] = record.getMessage()
            fields["args"] = None
            if record.exc_info and not record.exc_text:
                formatter = self.formatter or logging.Formatter()
                fields["exc_text"] = formatter.formatException(record.exc_info)
            fields["exc_info"] = None
            _name_place(fields)
            for name, value in fields.items():
                if type(value) not in _PLAIN:  # of `extra`: as it would be shown
                    fields[name] = str(value)
            _core._send_record(marshal.dumps(("record", fields)))
        except Exception:
            self.handleError(record)


def _name_place(fields: dict[str, Any]) -> None:
    """Tell workers apart where a format tells processes apart, or threads."""
    id = _interpreters.get_current()[0]
    try:
        from ..interpreter import Interpreter

        name = f"{Interpreter(id).name or 'interpreter'}-{id}"  # a pool's have one name
    except Exception:  # it is ending
        name = f"interpreter-{id}"
    if fields.get("threadName") == "MainThread":
        fields["threadName"] = name
    if fields.get("processName") == "MainProcess":
        fields["processName"] = name


def _keep_unconfigured() -> None:
    """The functions of the module (`logging.info`) configure logging if nobody has. Here
    it is: only code that calls basicConfig() itself has handlers of its own."""
    configure = logging.basicConfig

    @functools.wraps(configure)
    def basic_config(*args: Any, **kwargs: Any) -> None:
        if sys._getframe(1).f_globals is not vars(logging):
            configure(*args, **kwargs)

    logging.basicConfig = basic_config


def connect(levels: tuple[Any, ...] | None, stderr: object) -> None:
    """Send to main what has no handler here; start with main's levels.

    `stderr` is the interpreter's own stream.
    """
    logging.lastResort = _Forward(stderr, logging.lastResort)
    _keep_unconfigured()
    if levels is None:
        return
    disable, root, *others = levels
    logging.disable(disable)
    logging.root.setLevel(root)
    _due.update(others)
    _set_when_made()


# The levels of loggers that are not made here yet.
_due: dict[str, int] = {}


def _set_when_made() -> None:
    """Give loggers their levels (by name) when they, or loggers below them, are
    made: a package may call logging.setLoggerClass() before it makes its own."""
    manager = logging.root.manager
    if not _due or "getLogger" in vars(manager):
        return
    make = manager.getLogger

    def get_logger(name: str) -> logging.Logger:
        logger = make(name)
        end = name.find(".")
        while _due:
            upper = name if end < 0 else name[:end]
            level = _due.pop(upper, None)
            if level is not None:
                make(upper).setLevel(level)
            if end < 0:
                break
            end = name.find(".", end + 1)
        if not _due:
            vars(manager).pop("getLogger", None)
        return logger

    manager.getLogger = get_logger  # type: ignore[method-assign]


def follow(old: tuple[Any, ...] | None, new: tuple[Any, ...] | None) -> None:
    """Take over what has changed in main's levels since `old`; what was set here to
    something else since then stays."""
    old_disable, old_root, *old_others = old or (logging.NOTSET, logging.WARNING)
    disable, root, *others = new or (logging.NOTSET, logging.WARNING)
    if disable != old_disable:
        logging.disable(disable)
    if root != old_root:
        logging.root.setLevel(root)
    then, now = dict(old_others), dict(others)
    for name in then.keys() | now.keys():
        level, before = now.get(name), then.get(name)
        logger = logging.root.manager.loggerDict.get(name)
        if level == before:
            continue
        if not isinstance(logger, logging.Logger):
            _due.pop(name, None)
            if level is not None:
                _due[name] = level
        elif level is not None:
            logger.setLevel(level)
        elif logger.level == before:
            logger.setLevel(logging.NOTSET)
    _set_when_made()


def handle(interp: int, fields: dict[str, Any]) -> None:
    """In main: handle a record as if it had been made here."""
    logger = logging.getLogger(fields["name"])
    if not logger.isEnabledFor(fields["levelno"]):
        return
    # Not made by the record factory, which would ask who and where we are.
    record = logging.LogRecord.__new__(logging.LogRecord)
    record.__dict__.update(fields)
    record.interpreter = interp
    started = getattr(logging, "_startTime", None)
    if started is not None:
        record.relativeCreated = (record.created - started / 1e9) * 1e3
    logger.handle(record)
