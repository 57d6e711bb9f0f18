"""HTML and Markdown → text and title."""

from __future__ import annotations

import time

import pytest

from penstock.media.text.markup import html_text, markdown_text
from penstock.media.text.passages import normalize_text


def _html(page: str) -> str:
    return normalize_text(html_text(page)[0])


def _markdown(source: str) -> str:
    return normalize_text(markdown_text(source)[0])


def test_html_keeps_its_visible_text() -> None:
    page = """<html><head><title>T</title><style>p{}</style></head><body><nav>menu</nav><h1>Head</h1>
      <p>One <b>bo</b>ld &amp; fine.<br>Next<p>Three<script>alert(1)</script><!-- no --></body></html>"""
    assert _html(page) == "Head\n\nOne bold & fine.\nNext\n\nThree"


def test_html_cells_and_items_are_apart() -> None:
    assert _html("<table><tr><td>a<td>b<tr><td>c</table><ul><li>d<li>e</ul>") == "a b\n\nc\n\nd\n\ne"


def test_html_title_is_decoded_and_may_be_absent() -> None:
    assert html_text("<title lang=en>Fish &amp; chips </title><p>x")[1] == "Fish & chips"
    assert html_text("<p>x")[1] == ""


def test_markdown_is_rendered() -> None:
    source = (
        "# A *title*\n\nSee [the link](http://x) and `code`,\nsame paragraph. ![a cat](c.png)\n\n- one\n- two\n\n"
        "```python\nprint(1)\nprint(2)\n```\n\n| h1 | h2 |\n|---|---|\n| c1 | c2 |\n\n<div>raw <b>html</b></div>\n"
    )
    assert _markdown(source) == (
        "A title\n\nSee the link and code,\nsame paragraph. a cat\n\none\n\ntwo"
        "\n\nprint(1)\nprint(2)\n\nh1 h2\n\nc1 c2\n\nraw html"
    )
    assert markdown_text(source)[1] == "A title"


def test_markdown_without_heading_has_no_title() -> None:
    assert markdown_text("words only")[1] == ""


def test_a_page_of_many_tags_has_the_text_of_its_parts() -> None:
    rows = [f"<div><p>row {number} <b>bo</b>ld<script>if (a<b) drop()</script></p></div>" for number in range(6_000)]
    expected = "\n\n".join(f"row {number} bold" for number in range(6_000))
    assert _html("<html><body>" + "".join(rows) + "</body></html>") == expected


@pytest.mark.parametrize("unit", ["<div>a", "<ul><li>a", "<b></p>", "<", "<!-- ", "<script>", "<a href='", "<title>"])
def test_html_takes_linear_time(unit: str) -> None:
    started = time.process_time()
    html_text((unit * 400_000)[:2_000_000])  # nested <div>s alone: two hours without the cut
    assert time.process_time() - started < 20


@pytest.mark.parametrize("unit", ["![[", "[a](", "1. x\n", "> ", "***a* "])
def test_markdown_takes_linear_time(unit: str) -> None:
    def took(chars: int) -> float:
        started = time.process_time()
        markdown_text((unit * chars)[:chars])
        return time.process_time() - started

    took(4_000)
    assert took(64_000) < 10 * (8 * took(8_000) + 0.01)
    assert took(2_000_000) < 1  # longer ones are not parsed


@pytest.mark.parametrize(
    "source",
    [
        "---\n" + "  - a\n" * 100,
        "---\n" + "  - tag\n" * 230 + "---\nText.\n",
        "---\n" + "a: b\n" * 100_000,
        "---\n" + "\n" * 100_000,
        "---\n" * 50_000,
        "---\ntitle: " + " " * 50_000 + "x" + " " * 50_000 + "\n---\n",
        "+++\n" + "[a]\n#\n" * 50_000,
    ],
    ids=lambda source: repr(source[:20]),
)
def test_front_matter_takes_linear_time(source: str) -> None:
    started_s = time.process_time()
    markdown_text(source)
    assert time.process_time() - started_s < 10


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<!-- <title>no</title> --><title>yes</title><p>x", "yes"),
        ("<body><svg><title>drawing</title></svg><p>x", ""),
        ("<head><title>page</title></head><body><svg><title>drawing</title></svg>", "page"),
        ("<body><svg><g><title>a</title></g></svg><title>late</title>", "late"),
        ("<script>'<title>no</title>'</script><p>x", ""),
    ],
)
def test_a_title_in_a_comment_a_script_or_a_drawing_is_none(page: str, title: str) -> None:
    assert html_text(page)[1] == title


@pytest.mark.parametrize(
    ("source", "title", "text"),
    [
        ("---\ntitle: The cormorant\ntags: [bird]\n---\n\n# It dives\n\nDeep.\n", "It dives", "It dives\n\nDeep."),
        ('---\ntitle: "The cormorant"\ntags:\n  - bird\n---\nDeep.\n', "The cormorant", "Deep."),
        ("+++\ntitle = 'The cormorant'\ndraft = true\n+++\nDeep.\n", "The cormorant", "Deep."),
        ("---\nlayout: post\n...\nDeep.\n", "", "Deep."),
        ("---\n\nDeep water.\n\n---\n\nMore.\n", "", "Deep water.\n\nMore."),
        ("---\nDeep water and no field\n---\nMore.\n", "Deep water and no field", "Deep water and no field\n\nMore."),
    ],
)
def test_front_matter_is_no_text_and_its_title_counts_where_there_is_no_heading(
    source: str, title: str, text: str
) -> None:
    assert (markdown_text(source)[1], _markdown(source)) == (title, text)
