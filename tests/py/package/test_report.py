"""bench/report.py: figures go from a run of the benchmarks into the pages, by themselves."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import report

    yield report
    for name in ("report", "chart"):
        sys.modules.pop(name, None)


def run_of(report, value):
    """What a run says in which every number is `value`."""
    keys = {key for _, ours, rivals in report.COSTS for key in (ours, *rivals.values())}
    keys |= {
        f"alternatives.{way}.{part}"
        for way in ("atoll", "processes")
        for part in ("first", "further", "memory", "trip")
    }
    keys |= {f"map_cheap.{n}.{of}" for n in "015" for of in ("loop", "atoll", "lines")}
    keys.add("map_cheap.start")
    number = {"what": "a | b", "unit": "µs", "repeats": 3, "theme": "messages"}
    number |= {"min": value, "median": value, "max": value}
    words = "command cpu machine kernel libc python compiler atoll commit".split()
    return {
        "environment": {**dict.fromkeys(words, "x"), "date": "2026-01-02T03:04", "cores": 2},
        "numbers": dict.fromkeys(keys, number),
        "goals": [
            {
                "what": "w",
                "goal": "≤ 1",
                "measured": "2",
                "beside": "rival 3",
                "met": False,
                "theme": "messages",
            }
        ],
    }


def test_every_table_is_on_a_page(report):
    texts = [(ROOT / name).read_text() for name in report.PAGES]
    found = [name for text in texts for name in re.findall(r"<!-- figures: (\w+) -->", text)]
    assert sorted(found) == sorted(report.TABLES)


def test_the_page_of_map_says_from_where_on_it_pays(report):
    data = run_of(report, 1234.5)
    text = report.fill((ROOT / "docs" / "map.md").read_text(), data)
    assert text.count("| 1,234 µs | 1,234 µs | from 1,234 µs on |") == 3
    del data["numbers"]["map_cheap.0.lines"]
    assert "| 0 µs | 1,234 µs | 1,234 µs | never |" in report.fill(text, data)


def test_the_readme_has_the_tables_of_a_run(report):
    text = (ROOT / "README.md").read_text()
    first = report.fill(text, run_of(report, 1.25))
    assert first.count("1.25 µs") == sum(1 + len(r) for _, _, r in report.COSTS) + 8
    assert "not measured" in first  # Ray, say
    second = report.fill(first, run_of(report, 4321))
    assert "1.25 µs" not in second
    assert "4,321 µs" in second
    inside = re.compile(r"(<!-- figures: \w+ -->).*?(<!-- end of figures -->)", re.DOTALL)
    assert inside.sub(r"\1\2", second) == inside.sub(r"\1\2", text)


def test_the_page_has_all_numbers_and_goals(report):
    data = run_of(report, 1.25)
    page = report.page(data, {"messages": "an int there and back", "frozen": "not run"})
    assert "## An int there and back" in page
    assert "Not run" not in page
    assert page.count("| a \\| b | 1.25 µs |") == len(data["numbers"])
    assert "| w | ≤ 1 | 2 | rival 3 | **no** |" in page


def test_a_number_that_is_missing_is_no_table(report):
    data = run_of(report, 1.25)
    del data["numbers"]["round_trip.queue"]
    with pytest.raises(KeyError, match=r"round_trip\.queue"):
        report.costs(data)
