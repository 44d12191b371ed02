import datetime
from collections.abc import Iterator
from typing import Any

import yaml

TEXT = """\
# a comment
base: &base {name: Größe, size: 3}
child:
  <<: *base
  size: 0x10
list:
- 1.5
- yes
- ~
- 2024-02-29
folded: >
  one
  two
literal: |
  a
   b
"""
MEANING = {
    "base": {"name": "Größe", "size": 3},
    "child": {"name": "Größe", "size": 16},
    "list": [1.5, True, None, datetime.date(2024, 2, 29)],
    "folded": "one two\n",
    "literal": "a\n b\n",
}


def kinds(data: str) -> Iterator[str]:
    for event in yaml.parse(data, Loader=yaml.CSafeLoader):
        yield type(event).__name__.removesuffix("Event")


def use(seed: int) -> None:
    assert yaml.__with_libyaml__
    assert yaml.load(TEXT, Loader=yaml.CSafeLoader) == MEANING
    assert yaml.load(TEXT.encode("utf-16"), Loader=yaml.CSafeLoader) == MEANING

    rows: list[dict[str, Any]] = [
        {"id": seed + i, "name": f"n {i}: ü", "more": {"x": [i, i / 4], "on": i % 2 == 0}}
        for i in range(200)
    ]
    text = yaml.dump(rows, Dumper=yaml.CSafeDumper, allow_unicode=True)
    assert text.startswith(f"- id: {seed}\n  more:\n    'on': true\n")
    assert yaml.load(text, Loader=yaml.CSafeLoader) == rows
    assert (
        list(kinds("a: [1]"))
        == (
            "StreamStart DocumentStart MappingStart Scalar SequenceStart Scalar "
            "SequenceEnd MappingEnd DocumentEnd StreamEnd"
        ).split()
    )

    class Loader(yaml.CSafeLoader):
        """Constructors of our own, called by the C parser's tree."""

    Loader.add_constructor("!sum", lambda loader, node: sum(loader.construct_sequence(node)))
    assert yaml.load(f"!sum [1, 2, {seed}]", Loader=Loader) == 3 + seed
    documents = list(yaml.load_all("--- 1\n--- [2]\n...\n", Loader=yaml.CSafeLoader))
    assert documents == [1, [2]]
    try:
        yaml.load("a: [1, 2\nb: 3", Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        assert isinstance(error, yaml.MarkedYAMLError) and error.problem_mark.line == 1
    else:
        raise AssertionError("no YAMLError")
