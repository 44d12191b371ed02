"""Run the ```python blocks of a page of the documentation, one after the other.

    python tests/py/page.py PAGE

They share a namespace, that of `__main__`. A block ```output after one is what it has
to print, where ``...`` stands for anything. Not a test, but run by one.
"""

import contextlib
import doctest
import io
import re
import sys
from pathlib import Path

FENCE = re.compile(r"^```(python|output)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text):
    """Of each ```python block of `text` (str): its line, its code, and what it has to
    print or None."""
    found = []
    for match in FENCE.finditer(text):
        kind, content = match.groups()
        if kind == "python":
            found.append([text.count("\n", 0, match.start()) + 1, content, None])
        elif not found or found[-1][2] is not None:
            raise ValueError("output of no block")
        else:
            found[-1][2] = content
    return found


def run(path):
    namespace = sys.modules["__main__"].__dict__
    same = doctest.OutputChecker().check_output
    for line, code, expected in blocks(path.read_text()):
        printed = io.StringIO()
        # Errors then name the page and its line.
        compiled = compile("\n" * line + code, str(path), "exec")
        with contextlib.redirect_stdout(printed):
            exec(compiled, namespace)
        if expected is not None and not same(expected, printed.getvalue(), doctest.ELLIPSIS):
            sys.exit(f"{path}:{line} printed\n{printed.getvalue()}\nand not\n{expected}")


if __name__ == "__main__":
    run(Path(sys.argv[1]))
