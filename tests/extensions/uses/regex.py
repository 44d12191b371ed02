import re

import regex


def use(seed: int) -> None:
    text = " ".join(f"{word}{seed + i}" for i in range(500) for word in ("foo", "Bär", "x-"))
    assert regex.findall(r"\bfoo(\d+)", text) == [str(seed + i) for i in range(500)]
    pattern = r"(?P<word>[^\W\d]+)(?P<number>\d+)"
    ours = [match.groupdict() for match in regex.finditer(pattern, text)]
    assert ours == [match.groupdict() for match in re.finditer(pattern, text)]

    # What re has not: all captures of a group, sets, recursion, fuzziness.
    match = regex.fullmatch(r"(?:(\w)(\d),?)+", "a1,b2,c3")
    assert match is not None and match.captures(1) == ["a", "b", "c"]
    assert regex.findall(r"(?V1)[[a-z]--[aeiou]]+", "education") == ["d", "c", "t", "n"]
    assert regex.fullmatch(r"(\((?:[^()]|(?1))*\))", "(a(b)((c)d))")
    assert not regex.fullmatch(r"(\((?:[^()]|(?1))*\))", "(a(b)((c)d)")
    fuzzy = regex.search(r"(?:interpreter){e<=2}", "an interpetrer here", regex.BESTMATCH)
    assert fuzzy is not None and sum(fuzzy.fuzzy_counts) <= 2
    assert regex.findall(r"\p{Greek}+", "αβγ abc δε") == ["αβγ", "δε"]
    assert regex.findall(r"\X", "e\u0301a") == ["e\u0301", "a"]
    assert regex.match(r"(?i)straße", "STRASSE", regex.FULLCASE)
    assert regex.split(r"(?V1)(?=b)", "abab") == ["a", "ba", "b"]

    names = [f"name{seed + i}" for i in range(200)]
    listed = regex.compile(r"\b\L<names>\b", names=names)
    assert listed.findall(f"no name{seed + 3} name{seed + 900} name{seed}") == [
        f"name{seed + 3}",
        f"name{seed}",
    ]
    swapped = regex.sub(r"(\w+) (\w+)", lambda m: f"{m[2]} {m[1]}", "one two three four")
    assert swapped == "two one four three"
    try:
        regex.search(r"(a+a+)+$", "a" * 40 + "b", timeout=0.02)
    except TimeoutError:
        pass
    try:
        regex.compile(r"(unclosed")
    except regex.error as error:
        assert error.pos == 9
    else:
        raise AssertionError("no regex.error")
