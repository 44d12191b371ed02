"""How the results of atoll.doctor are shown: as a table, as text, as JSON."""

from __future__ import annotations

import platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TextIO

    from .._doctor.diagnosis import Diagnosis, ModuleDiagnosis, Progress

#: Of what as_json() makes; a change that could break a reader raises it.
SCHEMA = 1

_COLUMNS = ("package", "version", "modules", "as it is", "isolated", "verdict")
_RIGHT = ("modules", "as it is", "isolated")
_STYLES = {"native": "green", "isolated": "green", "fails": "red", "main-fails": "yellow"}
_VERDICTS = {"main-fails": "main: fails"}


def as_json(found: Sequence[Diagnosis], interrupted: bool) -> dict[str, Any]:
    """The results for programs (dict); docs/reference.md has the schema."""
    from dataclasses import asdict

    import atoll

    return {
        "schema": SCHEMA,
        "atoll": atoll.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "interrupted": interrupted,
        "packages": [asdict(diagnosis) for diagnosis in found],
    }


def show(found: Sequence[Diagnosis], everything: bool, file: TextIO) -> None:
    """Write the results for people, in colour if `file` is a terminal.

    Args:
      found (list of Diagnosis): the results.
      everything (bool): list every module, and not only those that fail.
      file (text file): where to.
    """
    if found:
        rows = [_row(diagnosis) for diagnosis in found]
        if not (file.isatty() and _rich_table(rows, file)):
            _plain_table(rows, file)
    else:
        print("no installed package has extension modules", file=file)
    for diagnosis in found:
        lines = _details(diagnosis, everything)
        if lines:
            print(f"\n{diagnosis.name} {diagnosis.version}", file=file)
            for line in lines:
                print(f"  {line}", file=file)
    hidden = sum(
        _is_hidden(m) for d in found if d.verdict != "main-fails" for m in d.modules
    )
    if hidden and not everything:
        what = "1 module is" if hidden == 1 else f"{hidden} modules are"
        print(
            f"\n{what} not listed that failed: for tests, or not importable in main "
            "either (--all lists all)",
            file=file,
        )


def _row(diagnosis: Diagnosis) -> tuple[str, ...]:
    modules = [m for m in diagnosis.modules if not m.test]
    native = sum(m.verdict == "native" for m in modules)
    isolated = native + sum(m.verdict == "isolated" for m in modules)
    return (
        diagnosis.name,
        diagnosis.version,
        str(len(modules)),
        str(native),
        str(isolated),
        diagnosis.verdict,
    )


def _rich_table(rows: Sequence[tuple[str, ...]], file: TextIO) -> bool:
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _RIGHT else "left")
    for *cells, verdict in rows:
        word = Text(_VERDICTS.get(verdict, verdict), style=_STYLES[verdict])
        table.add_row(*map(Text, cells), word)
    Console(file=file, highlight=False).print(table)
    return True


def _plain_table(rows: Sequence[tuple[str, ...]], file: TextIO) -> None:
    lines = [_COLUMNS, *((*cells, _VERDICTS.get(verdict, verdict)) for *cells, verdict in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(_COLUMNS, line, widths, strict=True)
        ]
        print("  ".join(cells).rstrip(), file=file)


def _details(diagnosis: Diagnosis, everything: bool) -> list[str]:
    """What is said of a package below the table."""
    shown: list[ModuleDiagnosis] = []
    for module in (*diagnosis.imports, *diagnosis.modules):
        failing = module.verdict == "fails" and not module.test
        if everything or failing or diagnosis.verdict == "main-fails":
            shown.append(module)
    lines = []
    before = None
    for module in shown:
        # Modules of a package that fails have its reason: once is enough.
        if not everything and module.reason is not None and module.reason == before:
            continue
        before = module.reason
        verdict = _VERDICTS.get(module.verdict, module.verdict)
        mark = " (test)" if module.test else ""
        text = f": {module.reason}" if module.reason else ""
        lines.append(f"{module.name}{mark}: {verdict}{text}")
    lines += [f"note: {note}" for note in diagnosis.notes]
    advice = _advice(diagnosis)
    if advice:
        lines.append(f"-> {advice}")
    return lines


def _is_hidden(module: ModuleDiagnosis) -> bool:
    return module.verdict == "main-fails" or (module.test and module.verdict == "fails")


def _advice(diagnosis: Diagnosis) -> str:
    """What to do about it (str), or ''."""
    if diagnosis.verdict == "main-fails":
        return (
            "it does not import in the main interpreter either: "
            "install what it asks for, or install it again"
        )
    if diagnosis.verdict != "fails":
        return ""
    reasons = " ".join(m.reason or "" for m in (*diagnosis.imports, *diagnosis.modules))
    if "timeout after" in reasons:
        return "try a longer --timeout; or use it in the main interpreter only"
    if "GLIBC_TUNABLES" in reasons:
        return "set that in the environment before Python starts"
    return (
        "use it in the main interpreter only, and let the others ask for its work "
        "through a queue; please report it with what --json prints"
    )


class Line:
    """A line on a terminal that says what is going on; nothing elsewhere."""

    def __init__(self, file: TextIO) -> None:
        import os

        self._file = file
        self._on = file.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def __call__(self, progress: Progress) -> None:
        """Show it."""
        if self._on:
            from shutil import get_terminal_size

            text = f"{progress.done}/{progress.total} {progress.package} {progress.doing}"
            self._put(text[: get_terminal_size().columns - 1])

    def clear(self) -> None:
        """Take the line away."""
        if self._on:
            self._put("")

    def _put(self, text: str) -> None:
        self._file.write(f"\r\x1b[K{text}")
        self._file.flush()


def write_json(found: Sequence[Diagnosis], interrupted: bool, file: TextIO) -> None:
    """Write as_json() to a file."""
    import json

    json.dump(as_json(found, interrupted), file, indent=2)
    file.write("\n")
