import io
import struct
import zlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.tri import Triangulation


def chunks(png: bytes) -> dict[bytes, bytes]:
    """The parts of a PNG file, whose checksums are looked at."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found: dict[bytes, bytes] = {}
    at = 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        data = png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length) == (zlib.crc32(kind + data),)
        found[kind] = found.get(kind, b"") + data
        at += 12 + length
    return found


def use(seed: int) -> None:
    figure = Figure(figsize=(4, 3), dpi=100)
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    x = np.linspace(0, 6, 300)
    left.plot(x, np.sin(x + seed), label="sin")
    left.set_title(f"naïve $\\frac{{{seed}}}{{2}}$")
    left.legend()
    left.fill_between(x, 0, np.cos(x), alpha=0.3)
    right.contourf(np.outer(x[:40], x[:40]))
    right.hist([1, 2, 2, 3])
    file = io.BytesIO()
    figure.savefig(file, format="png")
    parts = chunks(file.getvalue())
    assert struct.unpack(">II", parts[b"IHDR"][:8]) == (400, 300)
    rows = zlib.decompress(parts[b"IDAT"])
    assert len(rows) == 300 * (1 + 400 * 4)

    # One colour and nothing else: the pixels are known.
    plain = Figure(figsize=(1, 1), dpi=50, facecolor=(1, 0, 0))
    canvas = FigureCanvasAgg(plain)
    axes = plain.add_axes((0.5, 0, 0.5, 1))
    axes.axis("off")
    axes.imshow(np.full((5, 5, 3), (0.0, 0.0, 1.0)), aspect="auto")
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    assert pixels.shape == (50, 50, 4)
    assert pixels[25, 5].tolist() == [255, 0, 0, 255]
    assert pixels[25, 45].tolist() == [0, 0, 255, 255]
    counts, edges, _ = right.hist([1, 1, 2, 9], bins=[0, 2, 4, 10])
    assert counts.tolist() == [2, 1, 1] and edges.tolist() == [0, 2, 4, 10]

    for kind, start in (("svg", b"<?xml"), ("pdf", b"%PDF")):
        file = io.BytesIO()
        plain.savefig(file, format=kind)
        assert file.getvalue().startswith(start)
    square = Path([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
    assert square.contains_points([(0.5, 0.5), (2, 0.5)]).tolist() == [True, False]
    triangles = Triangulation([0, 1, 0, 1], [0, 0, 1, 1])
    assert len(triangles.triangles) == 2 and len(triangles.edges) == 5
