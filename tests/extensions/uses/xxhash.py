import xxhash


def use(seed: int) -> None:
    # The values of the reference implementation.
    assert xxhash.xxh32_hexdigest(b"") == "02cc5d05"
    assert xxhash.xxh64_hexdigest(b"") == "ef46db3751d8e999"
    assert xxhash.xxh3_64_hexdigest(b"") == "2d06800538d394c2"
    assert xxhash.xxh3_128_hexdigest(b"") == "99aa06d3014798d86001c324468d497f"
    assert xxhash.xxh32_hexdigest(b"abc") == "32d153ff"
    assert xxhash.xxh64_hexdigest(b"abc") == "44bc2cf5ad770999"

    text = b"".join(b"line %d\n" % (seed + i) for i in range(50_000))
    for kind in (xxhash.xxh32, xxhash.xxh64, xxhash.xxh3_64, xxhash.xxh3_128):
        whole = kind(text, seed=seed)
        parts = kind(seed=seed)
        for i in range(0, len(text), 1000):
            parts.update(text[i : i + 1000])
        assert parts.digest() == whole.digest() != kind(text, seed=seed + 1).digest()
        assert int.from_bytes(whole.digest()) == whole.intdigest()
        assert len(whole.digest()) == whole.digest_size
        copy = whole.copy()
        copy.update(b"more")
        assert copy.digest() == kind(text + b"more", seed=seed).digest()
        parts.reset()
        assert parts.digest() == kind(seed=seed).digest()
        assert kind(memoryview(text)[:100], seed).digest() == kind(text[:100], seed).digest()
    try:
        xxhash.xxh64("text").update(1)
    except TypeError:
        pass
    else:
        raise AssertionError("no TypeError")
