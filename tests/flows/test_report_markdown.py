"""The report as Markdown: what a reader sees of it in Prefect's pages."""

from flows.report_markdown import report_markdown

PAGE = """<!doctype html><html><head><title>t</title><style>h1 {color: red}</style></head>
<body class="x"><nav><a href="#a">Jump</a></nav><!-- no -->
<section><h1 id="a">Accepted
</h1><p>Of <strong>600</strong>
slices,

some_arm * passed.</p>
<ul><li>one</li><li><em>two</em></li></ul>
<figure><h4>A</h4>

<img src="data:image/png;base64,_*_"></figure></section>
<table><tr><td><p>1</p></td></tr>

</table><script>alert(1)</script></body></html>"""


def test_headings_lists_and_text_are_markdown_and_pictures_and_tables_html() -> None:
    assert report_markdown(PAGE).split("\n\n") == [
        "# Accepted",
        "Of **600** slices, some\\_arm \\* passed.",
        "- one",
        "- <em>two</em>",
        '<figure><h4>A</h4> <img src="data:image/png;base64,_*_"></figure>',
        "<table><tr><td><p>1</p></td></tr> </table>",
    ]
