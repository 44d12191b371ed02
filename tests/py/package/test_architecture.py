"""ARCHITECTURE.md and its picture say what tools/rooms.toml says."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "ARCHITECTURE.md").read_text()


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_a_row_for_each_room():
    rows = load(ROOT / "tools" / "rooms_table.py").rows()
    assert "\n".join(rows) in PAGE, "print them with tools/rooms_table.py"
    assert len(rows) == sum(room.is_dir() for room in (ROOT / "ext").iterdir())


def test_the_picture_is_that_of_the_table():
    draw = load(ROOT / "docs" / "pictures" / "draw.py")
    for name, picture in draw.PICTURES.items():
        file = ROOT / "docs" / "pictures" / f"{name}.svg"
        assert file.read_text() == picture().svg(), "run docs/pictures/draw.py"


def test_it_is_one_page():
    assert len(PAGE.splitlines()) <= 200


def test_each_page_of_the_design_is_listed():
    folder = ROOT / "docs" / "design"
    index = (folder / "index.md").read_text()
    pages = [page for page in folder.glob("*.md") if page.stem != "index"]
    assert len(pages) > 6
    for page in pages:
        assert f"\n{page.stem}\n" in index
        assert f"docs/design/{page.name})" in PAGE
