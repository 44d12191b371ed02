"""atoll.frozen_xml: XML from a file straight into a frozen graph."""

from __future__ import annotations

import os
from typing import IO

from .._core import Frozen, FrozenElement, _xml_target

#: Read at once: what is read is in memory twice for that long.
_BLOCK = 1 << 16


def frozen_xml(
    source: str | os.PathLike[str] | bytes | IO[bytes] | IO[str],
    *,
    name: str | None = None,
) -> Frozen[FrozenElement]:
    """Parse an XML document into memory shared by all interpreters.

    No Elements are made meanwhile: each is written into the graph when it ends.
    Equal names and texts are stored once. Comments and processing instructions are
    dropped, as ``xml.etree.ElementTree`` does.

    Args:
        source: where the document is: a path (str, os.PathLike); the document
            itself (bytes); or a file to be read, binary or text, that is left open.
        name: for you to tell graphs apart.

    Returns:
        A handle, whose ``get()`` and ``view()`` give the root, a FrozenElement.

    Reads as the file does, holding the GIL while it parses.

    Raises:
        xml.etree.ElementTree.ParseError: it is not well-formed; ``position`` is
            the line and column. What it was until there is given back.
        OSError: what opening and reading raise. MemoryError. AtollError: where
            freeze() raises it.
    """
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:
            return frozen_xml(file, name=name)
    if not isinstance(source, bytes) and not hasattr(source, "read"):
        kind = type(source).__name__
        raise TypeError(f"source must be a path, bytes or a file, not {kind}")
    from xml.etree.ElementTree import XMLParser

    target = _xml_target()
    parser = XMLParser(target=target)
    try:
        if isinstance(source, bytes):
            parser.feed(source)
        else:
            while data := source.read(_BLOCK):
                parser.feed(data)
        parser.close()
        return target.finish(name)
    finally:
        del parser  # an exception's traceback keeps what has a name
        target.drop()
