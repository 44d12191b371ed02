import io
import json

import ujson


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __json__(self) -> str:
        return f"{self.cents / 100:.2f}"


def use(seed: int) -> None:
    rows = [
        {"id": seed + i, "name": f"naïve {i} 😀", "share": i / 8, "tags": ["a", None, True]}
        for i in range(2000)
    ]
    for options in ({}, {"ensure_ascii": False}, {"indent": 2}):
        text = ujson.dumps(rows, **options)
        assert json.loads(text) == rows and ujson.loads(text) == rows
    assert ujson.loads(json.dumps(rows)) == rows
    assert (
        ujson.dumps({"b": 1, "a": [1.5, "é"]}, sort_keys=True) == '{"a":[1.5,"\\u00e9"],"b":1}'
    )
    assert ujson.dumps("</script>", encode_html_chars=True) == '"\\u003c\\/script\\u003e"'
    assert ujson.dumps({"price": Money(1250)}) == '{"price":12.50}'
    assert ujson.dumps([{1, 2}], default=sorted) == "[[1,2]]"
    assert ujson.loads("[18446744073709551615, -1e-3]") == [2**64 - 1, -0.001]
    file = io.StringIO()
    ujson.dump({"seed": seed}, file)
    file.seek(0)
    assert ujson.load(file) == {"seed": seed}
    for bad in ('{"open": [1, 2', "[1,]", "nul", '"\\ud800'):
        try:
            ujson.loads(bad)
        except ujson.JSONDecodeError:
            pass
        else:
            raise AssertionError(f"no JSONDecodeError: {bad}")
    loop: list[object] = []
    loop.append(loop)
    try:
        ujson.dumps(loop)
    except (OverflowError, ValueError, RecursionError):
        pass
    else:
        raise AssertionError("no OverflowError")
