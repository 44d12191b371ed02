"""Log records of interpreters, handled by main's loggers.

connect() runs in an interpreter of atoll's when it imports logging, handle()
in main.
"""

from __future__ import annotations

import logging
import marshal

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What a record is made of here and there, beside the message.
_PLAIN = (int, float, str, bytes, bool, type(None))


class _Forward(logging.Handler):
    """logging.lastResort of an interpreter: for what nobody else handles."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = dict(record.__dict__)
            fields["msg"] = record.getMessage()
            fields["args"] = None
            if record.exc_info and not record.exc_text:
                formatter = self.formatter or logging.Formatter()
                fields["exc_text"] = formatter.formatException(record.exc_info)
            fields["exc_info"] = None
            for name, value in fields.items():
                if type(value) not in _PLAIN:  # of `extra`: as it would be shown
                    fields[name] = str(value)
            _core._send_record(marshal.dumps(fields))
        except Exception:
            self.handleError(record)


def connect(levels: tuple[Any, ...] | None) -> None:
    """Send to main what has no handler here; start with main's levels."""
    logging.lastResort = _Forward(logging.NOTSET)
    if levels is None:
        return
    disable, root, *others = levels
    logging.disable(disable)
    logging.root.setLevel(root)
    for name, level in others:
        logging.getLogger(name).setLevel(level)


def handle(interp: int, data: bytes) -> None:
    """In main: handle a record as if it had been made here."""
    fields = marshal.loads(data)
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
