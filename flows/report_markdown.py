"""Write the report as Markdown, which Prefect's pages show with their own headings and lists.

Tables and charts stay as they are in HTML; charts are data URIs, so they need no network. Pictures
of slices are left out: some show patients, and the server may be another machine.
"""

import re

HIDDEN = re.compile(r"<(style|script|title|nav)\b.*?</\1>|<!--.*?-->", re.DOTALL)
BODY = re.compile(r"<body[^>]*>(.*)</body>", re.DOTALL)
KEPT = re.compile(r"(<(?:table|figure|svg)\b.*?</(?:table|figure|svg)>)", re.DOTALL)
HEADING = re.compile(r"<h([1-5])[^>]*>(.*?)</h\1>", re.DOTALL)
ITEM = re.compile(r"<li[^>]*>(.*?)</li>", re.DOTALL)
BOLD = re.compile(r"<(strong|b)>(.*?)</\1>", re.DOTALL)
DIVIDES = re.compile(r"</?(?!(?:a|b|strong|em|i|code|sub|sup|img|br)\b)[a-z][^>]*>", re.DOTALL)
PICTURE = re.compile(r"<img\b[^>]*\bdata:image/(?!svg)[^>]*>", re.DOTALL)
LEFT_OUT = "<em>a picture of slices: only in the report's file</em>"
MARKS = re.compile(r"[*_](?![^<>]*>)")


def report_markdown(page: str) -> str:
    """Return the report, a page of HTML, as Markdown, without its pictures of slices."""
    found = BODY.search(page)
    parts = KEPT.split(PICTURE.sub(LEFT_OUT, HIDDEN.sub("", found[1] if found else page)))
    blocks = (join_lines(part) if KEPT.fullmatch(part) else text_markdown(part) for part in parts)
    return "\n\n".join(filter(None, blocks))


def text_markdown(text: str) -> str:
    """Return headings, paragraphs and lists as Markdown; other elements only divide the text."""
    text = MARKS.sub(lambda mark: f"\\{mark[0]}", text)
    text = BOLD.sub(lambda found: f"**{join_lines(found[2])}**", text)
    text = HEADING.sub(
        lambda found: f"\n<p>{'#' * int(found[1])} {join_lines(found[2])}</p>\n", text
    )
    text = ITEM.sub(lambda found: f"\n<p>- {join_lines(found[1])}</p>\n", text)
    blocks = (join_lines(block) for block in DIVIDES.split(text))
    return "\n\n".join(block for block in blocks if block)


def join_lines(text: str) -> str:
    """Return a text in one line: a blank line would end an element of HTML in Markdown."""
    return " ".join(text.split())
