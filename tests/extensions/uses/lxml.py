from lxml import etree, html, objectify

SHEET = """
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:param name="least"/>
  <xsl:template match="/"><names><xsl:for-each select="//book[@price &gt; $least]">
    <name><xsl:value-of select="title"/></name></xsl:for-each></names></xsl:template>
</xsl:stylesheet>"""
SCHEMA = """
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <xs:element name="n" type="xs:positiveInteger"/>
</xs:schema>"""


class Collector:
    """A target of the parser: called back from C for each event."""

    def __init__(self) -> None:
        self.depth = self.most = 0
        self.text: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        self.most = max(self.most, self.depth)

    def end(self, tag: str) -> None:
        self.depth -= 1

    def data(self, text: str) -> None:
        self.text.append(text)

    def close(self) -> tuple[int, str]:
        return self.most, "".join(self.text)


def use(seed: int) -> None:
    root = etree.Element("library", nsmap={"x": "urn:x"})
    for i in range(500):
        book = etree.SubElement(root, "book", price=str(i), id=f"b{seed + i}")
        etree.SubElement(book, "title").text = f"Titel № {i}"
    data = etree.tostring(root, encoding="UTF-8", xml_declaration=True)
    tree = etree.fromstring(data)
    assert len(tree) == 500
    assert tree.xpath("sum(book/@price)") == 499 * 500 / 2
    assert tree.xpath("book[@id=$id]/title/text()", id=f"b{seed + 7}") == ["Titel № 7"]

    result = etree.XSLT(etree.fromstring(SHEET))(tree, least="497")
    assert [name.text for name in result.getroot()] == ["Titel № 498", "Titel № 499"]

    functions = etree.FunctionNamespace(f"urn:functions-{seed}")
    functions["twice"] = lambda context, value: 2 * float(value)
    try:
        names = {"f": f"urn:functions-{seed}"}
        assert tree.xpath("f:twice(count(book))", namespaces=names) == 1000.0
    finally:
        functions.clear()

    schema = etree.XMLSchema(etree.fromstring(SCHEMA))
    assert schema.validate(etree.fromstring("<n>3</n>"))
    assert not schema.validate(etree.fromstring("<n>-3</n>"))
    assert "positiveInteger" in str(schema.error_log)

    parser = etree.XMLParser(target=Collector())
    assert etree.fromstring("<a>x<b>y<c/></b>z</a>", parser) == (3, "xyz")
    try:
        etree.fromstring("<a><b></a>")
    except etree.XMLSyntaxError as error:
        assert "mismatch" in str(error)
    else:
        raise AssertionError("no XMLSyntaxError")

    page = html.fromstring("<p>One<br>two <a href='/x'>link</a><p>three")
    page.make_links_absolute("http://example.org/")
    assert [link[2] for link in page.iterlinks()] == ["http://example.org/x"]
    assert objectify.fromstring("<r><n>20</n><n>22</n></r>").n[1] + seed == 22 + seed
