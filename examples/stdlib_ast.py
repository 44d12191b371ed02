"""The job of the demo: what is in the standard library's source?

`count` is an ordinary function: it takes the paths of some Python files and
returns what it counted in them. ways.py runs it in a loop, in threads, in
processes and in interpreters. `worker` is what an interpreter runs: it takes
batches from one queue and puts what it counted into another.

It is a module of its own, so that processes and interpreters can import it.
"""

import ast
import hashlib
import sysconfig
import warnings
from collections import Counter
from pathlib import Path

BATCH = 16  # files
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# CPython's own test data is full of what the compiler warns about.
warnings.simplefilter("ignore", SyntaxWarning)


class Tally:
    """What was counted in some files. Two can be added, and compared."""

    def __init__(self):
        self.files = 0  # files that were parsed
        self.rejected = 0  # files that cannot be read or are not valid Python
        self.nodes = Counter()  # type of syntax node -> how many
        self.lengths = Counter()  # function length in lines -> how many

    def __eq__(self, other):
        return isinstance(other, Tally) and vars(self) == vars(other)

    def __iadd__(self, other):
        self.files += other.files
        self.rejected += other.rejected
        self.nodes.update(other.nodes)
        self.lengths.update(other.lengths)
        return self

    def __str__(self):
        functions = self.lengths.total()
        lines = sum(length * n for length, n in self.lengths.items())
        nodes = ", ".join(f"{name} {n:,}" for name, n in self.nodes.most_common(4))
        longest = max(self.lengths, default=0)
        ranges = ((1, 5), (6, 20), (21, 100), (101, max(longest, 101)))
        lengths = ", ".join(
            f"{n:,} of {low}-{high}"
            for low, high in ranges
            if (n := sum(self.lengths[x] for x in range(low, high + 1)))
        )
        return (
            f"{self.files:,} files, and {self.rejected:,} that are not valid"
            f" Python; {self.nodes.total():,} nodes: {nodes}, …\n"
            f"{functions:,} functions, {lines / max(functions, 1):.1f} lines"
            f" on average: {lengths} lines"
        )

    def digest(self):
        """A short fingerprint: equal tallies have equal ones."""
        content = (
            self.files,
            self.rejected,
            sorted(self.nodes.items()),
            sorted(self.lengths.items()),
        )
        return hashlib.sha256(repr(content).encode()).hexdigest()[:12]


def count(paths):
    """Parse the files at `paths` and return their Tally."""
    tally = Tally()
    for path in paths:
        try:
            tree = ast.parse(Path(path).read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError):
            tally.rejected += 1
            continue
        tally.files += 1
        for node in ast.walk(tree):
            tally.nodes[type(node).__name__] += 1
            if isinstance(node, FUNCTIONS):
                tally.lengths[node.end_lineno - node.lineno + 1] += 1
    return tally


def worker(work, results):
    """Count batch after batch, until there is a None in the place of one."""
    try:
        while (batch := work.get()) is not None:
            results.put(count(batch))
    except Exception as error:
        results.put(error)  # never leave the receiver waiting


def stdlib_files(limit=None):
    """The paths of the standard library's source files, in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = [
        str(path)
        for path in sorted(root.rglob("*.py"))
        if "site-packages" not in path.parts and path.is_file()
    ]
    return paths[:limit]


def batches(paths, size=BATCH):
    """Cut `paths` into tuples of up to `size` of them."""
    return [tuple(paths[i : i + size]) for i in range(0, len(paths), size)]
