import tiktoken


def encoding(seed: int) -> tiktoken.Encoding:
    """All bytes, and some merges that are made by hand."""
    ranks = {bytes([i]): i for i in range(256)}
    for word in (b"ab", b"abc", b" a", b" abc", "ü".encode(), b"12", b"the", b"th"):
        ranks[word] = len(ranks)
    return tiktoken.Encoding(
        f"by-hand-{seed}",
        pat_str=r"\p{L}+| ?\p{L}+|\p{N}{1,3}|\s+|[^\s\p{L}\p{N}]+",
        mergeable_ranks=ranks,
        special_tokens={"<|end|>": 1000 + seed},
    )


def use(seed: int) -> None:
    ours = encoding(seed)
    assert ours.n_vocab == 1001 + seed
    assert ours.encode("abc") == [257] and ours.encode("ü") == [260]
    assert ours.encode("the abc") == [262, 259]
    assert ours.encode("abcab") == [257, 256] and ours.encode("12") == [261]
    assert ours.encode("x\x00") == [120, 0]

    text = "abc the naïve 日本 😀 1234567890!? " * 500 + str(seed)
    ids = ours.encode(text)
    assert ours.decode(ids) == text and len(ids) < len(text.encode())
    assert b"".join(ours.decode_tokens_bytes(ids)) == text.encode()
    assert ours.encode_ordinary(text) == ids
    assert ours.encode_batch([text, "abc"], num_threads=2) == [ids, [257]]
    assert ours.decode_batch([ids, [257]], num_threads=2) == [text, "abc"]

    marked = "abc<|end|>abc"
    assert ours.encode(marked, allowed_special="all") == [257, 1000 + seed, 257]
    assert ours.decode(ours.encode(marked, disallowed_special=())) == marked
    try:
        ours.encode(marked)
    except ValueError as error:
        assert "<|end|>" in str(error)
    else:
        raise AssertionError("no ValueError")
    assert ours.encode_single_token(b"abc") == 257
    assert ours.decode_with_offsets(ours.encode("aü abc"))[1][0] == 0
    try:
        ours.encode_single_token("abcabc")
    except KeyError:
        pass
    else:
        raise AssertionError("no KeyError")
