"""What tests/types asserts for type checkers is true: its right uses are run here, and
each object is compared with the type that it is said to have."""

import ast
import asyncio
import importlib.util
import inspect
import types
import typing
from pathlib import Path

import atoll
import pytest

ROOT = Path(__file__).resolve().parents[3]
USES = ROOT / "tests" / "types"
NAMES = [
    line.removeprefix("async ").removeprefix("def ").partition("(")[0]
    for line in (USES / "right.py").read_text().splitlines()
    if line.startswith(("def use_", "async def use_"))
]


def conforms(value, wanted):
    """Is `value` of the type, as far as one can look into it without using it up?"""
    if wanted is typing.Any:
        return True
    if wanted is None:
        return value is None
    if isinstance(wanted, str):
        wanted = eval(wanted, {"array": __import__("array").array})
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is None:
        return isinstance(value, wanted) or (wanted is float and isinstance(value, int))
    if origin in (types.UnionType, typing.Union):
        return any(conforms(value, one) for one in args)
    if not isinstance(value, origin):
        return False
    if origin is list:
        return all(conforms(item, args[0]) for item in value)
    if origin is tuple:
        each = [args[0]] * len(value) if args[-1] is ... else args
        return len(value) == len(each) and all(map(conforms, value, each))
    if issubclass(origin, atoll.Future):
        return conforms(value.result(60), args[0])
    return True


def checked(value, wanted):
    assert conforms(value, wanted), f"{value!r} is no {wanted}"
    return value


@pytest.fixture
def uses(monkeypatch):
    monkeypatch.setattr(typing, "assert_type", checked)
    monkeypatch.syspath_prepend(USES)  # for the interpreters, too
    return importlib.import_module("right")


@pytest.mark.parametrize("name", NAMES)
def test_the_types_are_true(uses, name):
    done = getattr(uses, name)()
    if inspect.iscoroutine(done):
        asyncio.run(done)


def test_what_is_no_such_object_is_found():
    assert conforms([1, 2], list[int]) and conforms((1, "a"), tuple[int, str])
    assert conforms(None, int | None) and conforms(atoll.Cell(1), atoll.Cell[int])
    for value, wanted in (
        ([1, "a"], list[int]), ((1,), tuple[int, str]), ("a", int), (1, None),
        ("a", int | None), (1, atoll.Cell[int]),
    ):  # fmt: skip
        assert not conforms(value, wanted)
        with pytest.raises(AssertionError, match="is no"):
            checked(value, wanted)


def overloaded(tree):
    """(overload, implementation) for what has both."""
    for node in ast.walk(tree):
        found = {}
        if not isinstance(node, ast.Module | ast.ClassDef):
            continue
        for part in node.body:
            for function in part.body if isinstance(part, ast.If) else [part]:
                if not isinstance(function, ast.FunctionDef):
                    continue
                if any(ast.unparse(one) == "overload" for one in function.decorator_list):
                    found.setdefault(function.name, []).append(function)
                else:
                    for one in found.pop(function.name, ()):
                        yield one, function
        assert not found


def options(function):
    args = function.args
    return [ast.unparse(one) for one in (*args.kwonlyargs, *args.kw_defaults)]


def test_overloads_have_the_options_of_what_runs():
    """Type checkers do not mind what an overload lacks."""
    seen = set()
    for path in Path(atoll.__file__).parent.rglob("*.py"):
        for one, function in overloaded(ast.parse(path.read_text())):
            seen.add(function.name)
            if function.args.kwarg is None:  # else they are those of another function
                assert options(one) == options(function), f"{path.name}:{one.lineno}"
    assert seen == {"__init__", "map", "pipeline", "spawn", "submit", "submit_with"}


def test_the_comparison_goes_both_ways(capsys):
    spec = importlib.util.spec_from_file_location("check", ROOT / "tools" / "check_types.py")
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    one, other = ("wrong.py", 3, "arg-type"), ("right.py", 4, "misc")
    assert check.compare("mypy", {one, other}, {one, other}) == 0
    assert capsys.readouterr().out == ""
    assert check.compare("mypy", {one}, {other}) == 2
    assert capsys.readouterr().out.splitlines() == [
        "right.py:4: mypy finds misc, which is not expected",
        "wrong.py:3: mypy does not find arg-type",
    ]
    mypy, pyright = check.expected()
    assert {line for _, line, _ in mypy} == {line for _, line, _ in pyright}
    assert len({line for _, line, _ in mypy}) >= check.LEAST
