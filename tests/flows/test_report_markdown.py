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

<img src="data:image/svg+xml;base64,_*_"></figure></section>
<table><tr><td><p>1</p></td></tr>

</table><script>alert(1)</script></body></html>"""


def test_headings_lists_and_text_are_markdown_and_pictures_and_tables_html() -> None:
    assert report_markdown(PAGE).split("\n\n") == [
        "# Accepted",
        "Of **600** slices, some\\_arm \\* passed.",
        "- one",
        "- <em>two</em>",
        '<figure><h4>A</h4> <img src="data:image/svg+xml;base64,_*_"></figure>',
        "<table><tr><td><p>1</p></td></tr> </table>",
    ]


def test_no_pixel_of_a_slice_goes_to_the_server_that_shows_the_report() -> None:
    page = """<figure><img src="data:image/png;base64,AAAA" alt="real"
    width="2"><figcaption>Real</figcaption></figure>
    <p><img alt='x' src='data:image/jpeg;base64,AAAA'></p>"""
    shown = report_markdown(page)
    assert "AAAA" not in shown
    assert "only in the report's file" in shown
    assert "<figcaption>Real</figcaption>" in shown
