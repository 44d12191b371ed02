import multidict
from multidict import CIMultiDict, MultiDict, MultiDictProxy, istr
from multidict import _multidict as compiled


def use(seed: int) -> None:
    assert MultiDict is compiled.MultiDict  # not the pure Python one
    d: MultiDict[int] = MultiDict()
    for i in range(5000):
        d.add(f"key{i % 100}", seed + i)
    assert len(d) == 5000
    assert d["key7"] == seed + 7 and d.getall("key7") == [seed + i for i in range(7, 5000, 100)]
    assert list(d.items())[:2] == [("key0", seed), ("key1", seed + 1)]
    d["key7"] = -1
    assert d.getall("key7") == [-1] and len(d) == 4951
    assert d.popall("key8") == [seed + i for i in range(8, 5000, 100)]
    assert "key8" not in d
    try:
        d["key8"]
    except KeyError:
        pass
    else:
        raise AssertionError("no KeyError")

    headers: CIMultiDict[str] = CIMultiDict({"Content-Type": "text/plain"}, Accept="a")
    headers.add("ACCEPT", "b")
    assert headers["content-type"] == "text/plain"
    assert headers.getall("accept") == ["a", "b"]
    assert istr("Accept") == "Accept" and istr("accept") in headers
    headers.extend([("X-Seed", str(seed))])
    assert headers.get("x-seed") == str(seed)

    proxy = MultiDictProxy(d)
    assert len(proxy) == len(d) and proxy.copy() == d
    try:
        proxy["a"] = 1  # type: ignore[index]
    except TypeError:
        pass
    else:
        raise AssertionError("no TypeError")
    assert d.keys() & {"key1", "none"} == {"key1"}
    before = multidict.getversion(d)
    d.add("new", 1)
    assert multidict.getversion(d) > before
    try:
        for _ in d:
            d.add("more", 1)
    except RuntimeError:
        pass
    else:
        raise AssertionError("no RuntimeError")
