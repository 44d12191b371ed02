"""Frozen XML: every answer is compared with ElementTree's own."""

import copy
import gc
import io
import os
import pickle
import random
import sys
import warnings
import weakref
import xml.etree.ElementTree as ET

import atoll
import pytest
from support import STRESS, Task, check_python, rss_kib

PyElement = ET._Element_Py

DOCUMENTS = {
    "smallest": b"<a/>",
    "text": b"<a>text</a>",
    "mixed": b"<a x='1' y=''>one<b>two</b>three<c/>four<b n='2'>five<b/>six</b></a>",
    "entities": b"<!DOCTYPE a [<!ENTITY e 'in &#65;'>]><a t='&lt;&#x20ac;'>&amp;&e;&#10;</a>",
    "cdata": b"<a><![CDATA[<not> &amp; ]]>and<b><![CDATA[]]></b></a>",
    "dropped": b"<?xml version='1.0'?><!-- x --><a>1<!-- c -->2<b/>3<?pi y?>4</a><!-- y -->",
    "spaces": b"<a xmlns='u:1' xmlns:p='u:2' p:k='v' k='w'><p:b/><b p:c='d'/><p:b k='2'/></a>",
    "encoded": "<?xml version='1.0' encoding='latin-1'?><ä ö='é'>ü</ä>".encode("latin-1"),
    "wide": "<a>\U0001f40d<b t='€'>ÿ</b>𝔘</a>".encode(),
    "utf16": "<a>\u20ac<b/></a>".encode("utf-16"),
    "blank": b"<a>\n  <b>\n    <c/>\n  </b>\n  <b/>\n</a>\n",
    "long": b"<a>" + b"x" * 200_000 + b"<b t='" + b"y" * 100_000 + b"'/></a>",
}

PATHS = [
    "b", "a", "*", ".", "b/c", "b//", ".//b", ".//*", "b[1]", "b[2]", "b[last()]",
    "b[last()-1]", ".//b/..", ".//*[@n]", ".//*[@n='2']", ".//*[@n!='2']", "b[c]",
    ".//*[b]", ".//b[.='two']", "b[.!='two']", "*[b='']", "{u:2}b", "{*}b", "{}b",
    "{u:2}*", "{*}*", ".//{u:1}b", "{u:1}b", "p:b", "", "nothing", "b/nothing",
    "tag0", ".//tag1/tag2", "tag1[@k0]", ".//tag1[tag0]", "./tag2[2]", ".//tag3[@k1='é']",
]  # fmt: skip
BAD_PATHS = ["/b", "b[", "b[0]", "b[position()]", "q:b", "b[last()+1]", "..x"]
SPACES = {"p": "u:2", "": "u:1"}


def random_tree(chance, size, cls=ET.Element):
    def text():
        return chance.choice([None, None, "", "t", "text é", "\n  ", "𝔘€", "x" * 50])

    def element():
        keys = chance.sample(["k0", "k1", "{u:2}k", "id", "ü"], chance.choice([0, 0, 1, 3]))
        new = cls(
            chance.choice(["tag0", "tag1", "tag2", "tag3", "{u:1}b", "{u:2}b", "b"]),
            {key: chance.choice(["", "é", "2", "v"]) for key in keys},
        )
        new.text, new.tail = text(), text()
        return new

    made = [element()]
    for _ in range(size):
        made.append(element())
        chance.choice(made[-20:-1]).append(made[-1])
    made[0].tail = None
    return made[0]


def same(frozen, element):
    """All fields of all elements of two trees; iterative."""
    stack = [(frozen, element)]
    while stack:
        f, e = stack.pop()
        assert (f.tag, f.text, f.tail) == (e.tag, e.text, e.tail)
        assert dict(f.attrib) == e.attrib
        assert list(f.attrib) == list(e.attrib)
        assert len(f) == len(e)
        stack.extend(zip(f, e, strict=True))
    return True


def key_of(root):
    """Elements to their place in the document."""
    return {element: n for n, element in enumerate(root.iter())}


def texts_of(element):
    """As itertext(); that of 3.13.0 also gives the text of comments."""
    if not isinstance(element.tag, str) and element.tag is not None:
        return
    if element.text:
        yield element.text
    for child in element:
        yield from texts_of(child)
        if child.tail:
            yield child.tail


def attempt(function, *args):
    try:
        return function(*args)
    except Exception as exc:
        return type(exc), str(exc)


def compare(f, e, paths=PATHS):
    """All that can be asked of an element, of all elements of both trees."""
    same(f, e)
    fs, es = key_of(f), key_of(e)

    def places(found, table):
        if isinstance(found, tuple):
            return found
        return [table[x] for x in found]

    for tag in ("b", "*", None, "tag1", "nothing", ET.Comment, "", 5):
        assert places(f.iter(tag), fs) == places(e.iter(tag), es)
    for a, b in zip(f.iter(), e.iter(), strict=True):
        assert a.keys() == list(b.keys())
        assert a.items() == list(b.items())
        for key in [*b.keys(), "nothing", "", 5, None]:
            assert a.get(key) == b.get(key)
            assert a.get(key, default="d") == b.get(key, default="d")
        assert list(a.itertext()) == list(texts_of(b))
        for index in (0, -1, 1, 99, -99, "0", None):
            x, y = attempt(a.__getitem__, index), attempt(b.__getitem__, index)
            assert fs[x] == es[y] if not isinstance(x, tuple) else x[0] is y[0]
        for cut in (slice(None), slice(1), slice(1, None, 2), slice(None, None, -1)):
            assert places(a[cut], fs) == places(b[cut], es)
            assert type(a[cut]) is list
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert bool(a) == bool(b)
        assert ET.iselement(a)
    for a, b in list(zip(f.iter(), e.iter(), strict=True))[:50]:
        for path in [*paths, *BAD_PATHS]:
            for spaces in (None, SPACES, {}):
                def ask(x, method, *args, path=path, spaces=spaces):
                    return attempt(lambda: getattr(x, method)(path, *args, namespaces=spaces))

                assert places(ask(a, "findall"), fs) == places(ask(b, "findall"), es), path
                x, y = ask(a, "find"), ask(b, "find")
                if isinstance(x, tuple) or x is None:
                    assert x == y
                else:
                    assert fs[x] == es[y]
                assert ask(a, "findtext") == ask(b, "findtext")
                assert ask(a, "findtext", "else") == ask(b, "findtext", "else")
                x, y = (attempt(lambda r=r: list(r.iterfind(path, spaces)))  # noqa: B023
                        for r in (a, b))  # fmt: skip
                assert places(x, fs) == places(y, es)


@pytest.fixture(autouse=True)
def nothing_is_left():
    gc.collect()
    before = atoll.frozen_stats()
    yield
    gc.collect()
    after = atoll.frozen_stats()
    opened = after["pins"] - before["pins"]  # what main has got stays
    assert after["graphs"] - before["graphs"] == opened


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_what_elementtree_reads(name):
    document = DOCUMENTS[name]
    element = ET.fromstring(document)
    parsed, frozen = atoll.frozen_xml(document), atoll.freeze(element)
    compare(parsed.view(), element)
    compare(frozen.view(), element)
    assert ET.tostring(parsed.view()) == ET.tostring(element)
    assert ET.tostring(parsed.view(), "unicode", method="html") == ET.tostring(
        element, "unicode", method="html"
    )
    assert abs(parsed.nbytes - frozen.nbytes) <= 8192
    assert "XML element" in repr(parsed)


def test_native_elements_are_the_same():
    element = ET.fromstring(DOCUMENTS["mixed"])
    graph = atoll.frozen_xml(DOCUMENTS["mixed"])
    root = graph.get()
    compare(root, element)
    assert graph.pins == 1
    assert root.text is root.text  # the graph's own
    assert graph.view().text is not graph.view().text
    assert root == graph.view() == root
    assert hash(root) == hash(graph.view())
    assert root is graph.get()
    assert root[0] != root[1]
    held = root[0]
    assert root[0] is held
    assert next(root.iter()) is root


@pytest.mark.parametrize("cls", [ET.Element, PyElement], ids=["c", "python"])
@pytest.mark.parametrize("seed", range(5 * STRESS))
def test_random_trees(seed, cls):
    chance = random.Random(seed)
    size = chance.choice([1, 10, 40, 120])
    # Of the one in Python the answers are compared with the one in C.
    model = random_tree(random.Random(seed), size)
    tree = random_tree(random.Random(seed), size, cls)
    graph = atoll.freeze(tree, name="tree")
    assert graph.name == "tree"
    compare(graph.view(), model, chance.sample(PATHS, 8))
    assert ET.tostring(graph.view(), "unicode") == ET.tostring(model, "unicode")
    same(atoll.thaw(graph), model)
    text = ET.tostring(model, "utf-8")
    compare(atoll.frozen_xml(text).view(), ET.fromstring(text), chance.sample(PATHS, 8))


def test_sources(tmp_path):
    document = DOCUMENTS["wide"]
    path = tmp_path / "é.xml"
    path.write_bytes(document)
    element = ET.fromstring(document)
    for source in (path, str(path), document, io.BytesIO(document),
                   io.StringIO(document.decode())):
        graph = atoll.frozen_xml(source, name="n")
        same(graph.view(), element)
        assert graph.name == "n"
    with open(path, "rb") as file:
        same(atoll.frozen_xml(file).view(), element)
        assert not file.closed
    with pytest.raises(FileNotFoundError):
        atoll.frozen_xml(tmp_path / "missing.xml")
    for wrong in (5, None):
        with pytest.raises((TypeError, AttributeError)):
            atoll.frozen_xml(wrong)
    with pytest.raises(TypeError, match="name"):
        atoll.frozen_xml(document, name=5)


class Slowly(io.RawIOBase):
    """One byte at a time."""

    def __init__(self, data):
        self.data = io.BytesIO(data)

    def read(self, count=-1):
        return self.data.read(1)


@pytest.mark.parametrize("name", sorted(set(DOCUMENTS) - {"long"}))
def test_pieces(name):
    document = DOCUMENTS[name]
    same(atoll.frozen_xml(Slowly(document)).view(), ET.fromstring(document))


@pytest.mark.parametrize(
    "document",
    [b"", b"<a>", b"<a><b></a>", b"<a/><b/>", b"text", b"<a x='1' x='2'/>", b"<a>&no;</a>",
     b"<a b=c/>", b"<a>\xff</a>", b"<p:a/>", b"<a>" * 1000, b"<a>\n\n  <b/>\n &#0;</a>",
     b"<?xml version='1.0' encoding='utf-16'?><a/>"],
)  # fmt: skip
def test_errors_are_elementtrees(document):
    with pytest.raises(ET.ParseError) as theirs:
        ET.fromstring(document)
    with pytest.raises(ET.ParseError) as ours:
        atoll.frozen_xml(document)
    assert str(ours.value) == str(theirs.value)
    assert ours.value.position == theirs.value.position
    assert ours.value.code == theirs.value.code


def test_what_fails_leaves_nothing(tmp_path):
    class Broken(Slowly):
        def read(self, count=-1):
            data = super().read()
            return data if self.data.tell() < 40 else 1 // 0

    before = atoll.frozen_stats()
    kept = []
    for source in (b"<a>" + b"<b>text</b>" * 100_000, Broken(DOCUMENTS["mixed"])):
        with pytest.raises((ET.ParseError, ZeroDivisionError)) as failed:
            atoll.frozen_xml(source)
        kept.append(failed.value)  # with the frames, that have the target
    assert atoll.frozen_stats() == before
    rss = rss_kib()
    document = b"<a>" + b"<b>text</b>" * 100_000  # 20 MB each
    for n in range(20):
        with pytest.raises(ET.ParseError) as failed:
            atoll.frozen_xml(document)
        kept.append(failed.value)
        if n == 4:
            rss = rss_kib()
    assert rss_kib() - rss < 30_000


def test_an_entity_bomb_is_refused():
    levels = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 10))
    bomb = f"<!DOCTYPE a [<!ENTITY e0 'boom'>{levels}]><a>&e9;</a>"
    from xml.parsers import expat

    if expat.version_info < (2, 4, 1):
        pytest.skip("this expat expands them")
    with pytest.raises(ET.ParseError, match="amplification"):
        atoll.frozen_xml(bomb.encode())


def test_it_cannot_be_changed():
    graph = atoll.frozen_xml(DOCUMENTS["mixed"])
    for root in (graph.view(), graph.get()):
        for name in ("tag", "text", "tail", "attrib", "other"):
            with pytest.raises(AttributeError, match=r"cannot be set.*thaw"):
                setattr(root, name, "x")
            with pytest.raises(AttributeError):
                delattr(root, name)
        for name, args in {
            "append": (root,), "clear": (), "extend": ([],), "insert": (0, root),
            "remove": (root[0],), "set": ("k", "v"),
        }.items():  # fmt: skip
            with pytest.raises(TypeError, match="cannot be changed"):
                getattr(root, name)(*args)
        with pytest.raises(TypeError, match="cannot be changed"):
            root[0] = root
        with pytest.raises(TypeError, match="cannot be changed"):
            del root[0]
        with pytest.raises(TypeError):
            root.attrib["k"] = "v"
        with pytest.raises(TypeError):
            type(root)()
        assert gc.get_referents(root) in ([], [type(root)])
        same(root, ET.fromstring(DOCUMENTS["mixed"]))


def test_truth_warns_as_elementtree_does():
    root = atoll.frozen_xml(b"<a><b/></a>").view()
    with pytest.warns(DeprecationWarning, match="len"):
        assert root
    with pytest.warns(DeprecationWarning):
        assert not root[0]


def test_comments_in_a_tree_are_kept():
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True, insert_pis=True))
    document = b"<a>1<!-- c -->2<?pi with data?>3<b><!--d--></b></a>"
    element = ET.fromstring(document, parser)
    frozen = atoll.freeze(element)
    compare(frozen.view(), element)
    assert frozen.view()[0].tag is ET.Comment
    assert frozen.view()[1].tag is ET.ProcessingInstruction
    assert ET.tostring(frozen.view()) == ET.tostring(element) == document
    thawed = atoll.thaw(frozen)
    assert thawed[0].tag is ET.Comment
    assert ET.tostring(thawed) == document
    assert frozen.view()[1].find("x") is None


def build(change):
    root = ET.fromstring("<a><b/><c><d/></c></a>")
    change(root)
    return root


@pytest.mark.parametrize(
    "change, place",
    [
        (lambda r: setattr(r, "text", 5), r"at \.text: an instance of int"),
        (lambda r: setattr(r[1][0], "tail", b"x"), r"at \[1\]\[0\]\.tail: .* bytes"),
        (lambda r: setattr(r[0], "tag", ET.QName("x")), r"at \[0\]\.tag: .*QName"),
        (lambda r: r[1].set("k", 5), r"at \[1\]\.attrib: an instance of dict"),
        (lambda r: r[1].set(5, "k"), r"at \[1\]\.attrib"),
        (lambda r: r[1].append(r), r"at \[1\]\[1\]: .*part of itself"),
        (lambda r: r[1][0].append(r[1]), r"at \[1\]\[0\]\[0\]: .*part of itself"),
    ],
)
def test_what_is_refused(change, place):
    with pytest.raises(atoll.NotShareableError, match=place):
        atoll.freeze(build(change))


def test_elements_inside_other_things_are_refused():
    element = ET.fromstring("<a/>")
    graph = atoll.freeze(element)
    for inside in (element, graph, graph.view(), graph.get()):
        with pytest.raises(atoll.NotShareableError, match=r"at \['k'\]\[1\].*by themselves"):
            atoll.freeze({"k": [1, inside]})


def test_what_is_shared_stays_shared():
    root, part = ET.Element("r"), ET.Element("part", k="v")
    part.append(ET.Element("inner"))
    root.extend([part, part, ET.Element("part")])
    graph = atoll.freeze(root)
    view = graph.view()
    assert view[0] is not view[2]
    held = view[0]
    assert view[1] is held
    thawed = atoll.thaw(graph)
    assert thawed[0] is thawed[1]
    assert thawed[0] is not thawed[2]
    many = b"<r>" + b"<e name='some value'>a text of some length</e>" * 5000 + b"</r>"
    assert atoll.frozen_xml(many).nbytes < 5000 * 330


def test_subclasses_and_their_code():
    class Named(ET.Element):
        @property
        def extra(self):
            return 1

    root = Named("n", a="b")
    root.append(Named("m"))
    assert atoll.freeze(root).view()[0].tag == "m"
    assert type(atoll.thaw(atoll.freeze(root))) is ET.Element

    class Hostile(PyElement):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            gc.collect()
            self._children = [Hostile(f"h{index}") for _ in range(3)]
            return ET.Element(f"x{index}")

    assert [e.tag for e in atoll.freeze(Hostile("h")).view()] == ["x0", "x1", "x2"]

    class Broken(PyElement):
        def __len__(self):
            raise KeyError("len")

    with pytest.raises(KeyError):
        atoll.freeze(Broken("b"))


def test_frozen_again():
    graph = atoll.frozen_xml(DOCUMENTS["mixed"])
    model = ET.fromstring(DOCUMENTS["mixed"])
    part = atoll.freeze(graph.view()[2], name="part")
    named = atoll.freeze(graph, name="other")
    assert atoll.freeze(graph) is graph
    assert (part.nbytes, named.nbytes) == (0, 0)
    del graph
    same(part.view(), model[2])
    same(named.view(), model)
    assert named.name == "other"
    same(atoll.thaw(part), model[2])
    with atoll.create() as interp:
        assert interp.call(lambda g: g.get().tag, part) == model[2].tag


def test_copies_and_pickles_are_ordinary_elements():
    model = ET.fromstring(DOCUMENTS["mixed"])
    graph = atoll.frozen_xml(DOCUMENTS["mixed"])
    for root in (graph.view(), graph.get()):
        for made in (copy.copy(root), copy.deepcopy(root), atoll.thaw(root),
                     *(pickle.loads(pickle.dumps(root, p)) for p in range(2, 6))):
            assert type(made) is ET.Element
            same(made, model)
            made.text = "changed"
            made[0].set("k", "v")
        same(root, model)
        same(atoll.thaw(root[2]), model[2])
    code = f"""
        import pickle, sys
        element = pickle.loads({pickle.dumps(graph.view())!r})
        assert "atoll" not in sys.modules
        print(element[0].text)
    """
    assert check_python(code) == "two"


def look(thing):
    root = thing.view() if isinstance(thing, atoll.Frozen) else thing
    return [(e.tag, e.text, e.tail, dict(e.attrib)) for e in root.iter()]


def answer(thing):
    return type(thing).__name__, thing


def test_they_cross():
    graph = atoll.frozen_xml(DOCUMENTS["mixed"])
    expected = look(graph)
    queue = atoll.create_queue()
    with atoll.create() as interp:
        assert interp.call(look, graph) == expected
        assert interp.call(look, graph.view()) == expected
        assert interp.call(look, graph.view()[2]) == look(graph.view()[2])
        name, back = interp.call(answer, graph.view()[0])
        assert name == "FrozenElement"
        held = graph.view()[0]
        assert back is held
        queue.put([graph.view(), {"k": graph.view()[1]}])
        first, second = queue.get()
        assert first == graph.view()
        assert second["k"] == graph.view()[1]
        assert atoll.is_shareable(graph.view())
        cell = atoll.Cell(graph)
        assert look(cell.load()) == expected
    del cell, first, second, back, held


def hold_it(thing, held=[]):  # noqa: B006
    held.append(thing)
    return look(thing)


def drop_it():
    hold_it.__defaults__[0].clear()


def test_the_memory_goes_with_the_last_that_holds_it():
    before = atoll.frozen_stats()["graphs"]

    def alive():
        return atoll.frozen_stats()["graphs"] - before

    graph = atoll.frozen_xml(DOCUMENTS["mixed"])
    element = graph.view()[0]
    del graph
    assert alive() == 1
    assert element.text == "two"
    walk = element.iter()
    del element
    assert alive() == 1
    assert next(walk).tag == "b"
    assert list(walk) == []  # it has ended: it holds nothing
    assert alive() == 0

    graph = atoll.frozen_xml(DOCUMENTS["mixed"])
    texts, attrib, tag = graph.view().itertext(), graph.view().attrib, graph.view().tag
    del graph
    assert alive() == 1
    del texts
    assert alive() == 0
    assert (dict(attrib), tag) == ({"x": "1", "y": ""}, "a")  # copies

    graph = atoll.frozen_xml(DOCUMENTS["mixed"])
    with atoll.create() as interp:
        interp.call(hold_it, graph.view())
        del graph
        assert alive() == 1
        interp.call(drop_it)
        assert alive() == 0
        interp.call(lambda g: g.get().tag, atoll.frozen_xml(b"<a/>"))
        assert alive() == 1  # pinned
    assert alive() == 0


def test_weak_references_and_the_one_of_a_node():
    root = atoll.frozen_xml(b"<r>" + b"<e/>" * 5000 + b"</r>").view()
    ref = weakref.ref(root[7])
    assert ref() is None
    held = root[7]
    ref = weakref.ref(held)
    assert ref() is root[7]
    everything = list(root)
    assert all(a is b for a, b in zip(everything, root, strict=True))
    del everything[::2]
    gc.collect()
    assert all(a is b for a, b in zip(everything, list(root)[1::2], strict=True))
    assert root[7] is held


def test_depth():
    depth = 100_000
    model = f"{'<a>' * depth}x{'</a>' * depth}"
    graph = atoll.frozen_xml(model.encode())
    root = graph.view()
    assert sum(1 for _ in root.iter("a")) == depth
    assert list(root.itertext()) == ["x"]
    element = atoll.thaw(root)
    again = atoll.freeze(element)
    assert again.nbytes == graph.nbytes
    assert list(again.view().itertext()) == ["x"]
    with pytest.raises(RecursionError):  # as of ElementTree's own
        ET.tostring(root)


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect, as the other test")
def test_nothing_writes_to_it():
    code = """
        import os, random, sys
        os.environ["ATOLL_FROZEN_READONLY"] = "1"
        sys.path.insert(0, {here!r})
        import atoll, test_frozen_xml as t
        import xml.etree.ElementTree as ET
        for name, document in t.DOCUMENTS.items():
            graph = atoll.frozen_xml(document)
            element = ET.fromstring(document)
            t.compare(graph.view(), element, t.PATHS[::4])
            t.compare(graph.get(), element, t.PATHS[::4])
            for e in graph.get().iter():
                hash(e), {{e.tag: e.text}}, sys.intern(e.tag), e.attrib | {{}}, dict(e.attrib)
            t.same(atoll.thaw(graph), element)
        print("done")
    """
    assert check_python(code.format(here=os.path.dirname(__file__)), timeout=100) == "done"


def test_threads_and_interpreters_read_at_once():
    tree = random_tree(random.Random(5), 300)
    graph = atoll.freeze(tree)
    expected = [(e.tag, e.text, e.tail, e.attrib) for e in tree.iter()]

    def often():
        for _ in range(10):
            assert look(graph) == expected
            with atoll.create() as interp:
                assert interp.call(look, graph) == expected
        return True

    assert all(task.result(60) for task in [Task(often) for _ in range(3)])


def test_targets_misused():
    from atoll._core import _xml_target

    target = _xml_target()
    for call in (lambda: target.end("a"), target.close, lambda: target.finish(None)):
        with pytest.raises(ValueError):
            call()
    for wrong in (("a",), ("a", []), (5, {}), ("a", {1: "x"})):
        with pytest.raises(TypeError):
            target.start(*wrong)
    with pytest.raises(TypeError):
        target.data(b"x")
    target.start("a", {})
    target.start("b", {})
    target.end("b")
    with pytest.raises(ValueError):
        target.finish(None)
    target.drop()
    target.drop()
    with pytest.raises(ValueError, match="closed"):
        target.start("a", {})
