from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tilth.taxonomy.formats import Unreadable
from tilth.taxonomy.html_markdown import MAX_DEPTH, html_to_markdown


def markdown(html: str) -> str:
    return html_to_markdown(html.encode()).rstrip("\n")


def test_a_page_is_headings_and_paragraphs() -> None:
    head = "<html><head><title>No</title></head>"
    page = f"{head}<body><h1>The\n <em>Bridge</em></h1><p>It is 9&nbsp;m &amp; old.<p>It fell."
    assert markdown(page) == "# The Bridge\n\nIt is 9 m & old.\n\nIt fell."


def test_links_pictures_and_code_are_text() -> None:
    page = '<p>See <a href="x">this</a> <img alt="a plan" src=y>, run <code>x|y</code>.<br>Then\nstop. <b>Bold</b></p>'
    assert markdown(page) == "See this a plan , run `x|y`.\nThen stop. Bold"


def test_a_power_stays_one() -> None:
    assert markdown("<p>10<sup>3</sup> m, H<sub>2</sub>O<sup>[1]</sup>, <sup>a</sup>b") == "10^3 m, H2O[1], ab"


def test_lists_may_be_nested_numbered_and_left_open() -> None:
    page = (
        "<ul><li>One<li>Two<ul><li>Two a<p>more</ul><li><p>Three</p></ul><ol start=3><li>drei</li><li>vier</li></ol>end"
    )
    assert markdown(page) == "- One\n- Two\n  - Two a\n    more\n\n- Three\n\n3. drei\n4. vier\n\nend"


def test_code_is_fenced_by_more_than_it_holds() -> None:
    page = '<pre><code class="language-py">def f():<br>\treturn "```" &lt; 1\n\n# a\n</code></pre><p>end'
    assert markdown(page) == '````py\ndef f():\n        return "```" < 1\n\n# a\n````\n\nend'


def test_lines_of_code_may_be_blocks() -> None:
    assert markdown("<pre><div>one</div><div>two</div></pre>") == "```\none\ntwo\n```"


def test_tables_say_all_in_every_row() -> None:
    page = """<table><caption>Bridges</caption><thead><tr><th>Name<th>Of<th>Since</thead>
      <tr><td rowspan=2>Long Tom<td>wood<td>1702<tr><td>stone</td><td><p>1871</p><p>or so</p></td></tr>
      <tr><td colspan=2>a|b<td><table><tr><td>x<td>y</table></table>"""
    assert markdown(page) == (
        "Bridges\n\n| Name | Of | Since |\n|---|---|---|\n| Long Tom | wood | 1702 |\n"
        "| Long Tom | stone | 1871 or so |\n| a\\|b | a\\|b | x y |"
    )
    assert markdown("<table><tr><td>One<tr><td>Two</table>") == "One\n\nTwo"


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>var a = '<p>x</p>';</script>",
        "<style>p { x: y }</style>",
        "<!-- x <p>x</p> -->",
        "<![CDATA[x]]>",
        "<!x>",
        "<?php x ?>",
        "<template><p>x</p></template>",
        "<nav><ul><li>x</ul></nav>",
        "<div hidden><p>x</div>",
        '<p style="color: red; DISPLAY : none">x</p>',
        '<span aria-hidden="true">x</span>',
        "<svg><text>x</text></svg>",
        "<select><option>x</select>",
        "<textarea>x</textarea>",
        '<script>var o = s.indexOf("<!--x");</script>',
        "<SCRIPT>for(i=0;i<!x;i++){}</script >",
        "<style>p::after { content: '<!' }</style>",
        "<script/>",
        "<!-- <script> -->",
    ],
)
def test_what_a_reader_does_not_see_is_left_out(hidden: str) -> None:
    assert markdown(f"<p>before</p>{hidden}<p>after</p>") == "before\n\nafter"


@pytest.mark.parametrize("open_end", ["<!-- x", "<p title='x", "</p", "<script>x", "<!", "<"])
def test_what_is_not_closed_hides_the_rest(open_end: str) -> None:
    assert markdown(f"<p>before</p>{open_end}").startswith("before")
    assert "x" not in markdown(f"<p>before</p>{open_end}")


def test_text_that_looks_like_markdown_stays_text() -> None:
    assert markdown("<p># one<p>1. two<p>- three<p>---<p>```<p>#four") == (
        "\\# one\n\n1\\. two\n\n\\- three\n\n\\---\n\n\\```\n\n#four"
    )


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("é".encode(), "é"),
        (b"\xef\xbb\xbf\xc3\xa9", "é"),
        (b'<meta charset="ISO-8859-1">\xe9 \x80', "é €"),
        (b'<meta http-equiv=x content="text/html; charset=windows-1251">\xe9', "й"),
        ("é".encode("utf-16"), "é"),
    ],
)
def test_the_encoding_is_the_one_that_the_page_declares(data: bytes, text: str) -> None:
    assert html_to_markdown(data).strip() == text


@pytest.mark.parametrize("data", [b"\xe9", b"<meta charset=punycode>x", b"<meta charset=utf-8>\xe9", b"\xff\xfe\x00"])
def test_another_encoding_is_told(data: bytes) -> None:
    with pytest.raises(
        Unreadable, match=r"the page (is no utf[\w-]+ text|declares the encoding 'punycode'.*); save it as"
    ):
        html_to_markdown(data)


def test_hostile_nesting_and_tables_are_refused() -> None:
    assert markdown("<div>" * (MAX_DEPTH - 1) + "x") == "x"
    with pytest.raises(Unreadable, match=f"nested more than {MAX_DEPTH} deep"):
        markdown("<div>" * 1_000_000)
    with pytest.raises(Unreadable, match="more than 200000 cells"):
        markdown("<table>" + "<tr><td colspan=1000 rowspan=1000>x" * 300)
    with pytest.raises(Unreadable, match="more than 200000 cells"):
        markdown("<table><tr>" + "<td>x" * 1000 + "<tr><td>x" * 1000)


TAGS = ["p", "ul", "ol", "li", "table", "tr", "td", "pre", "code", "h1", "br", "blockquote", "script", "sup", "div"]
ODD = ["<div hidden>", "<td rowspan=3>", "<!--", "-->", "<![x", "&", "&lt;", "<", ">", "</"]
tags = st.sampled_from([*ODD, *(f"<{tag}>" for tag in TAGS), *(f"</{tag}>" for tag in TAGS)]) | st.text(max_size=8)


@given(st.lists(tags, max_size=40).map(" ".join))
def test_any_page_is_read(page: str) -> None:
    assert html_to_markdown(page.encode()).endswith("\n")


@pytest.mark.parametrize(
    "part", ["<", "</", "<!", "<!--", "<![", "<a ", "<a '", '<a b="', "&", "&#", "<p>", "<br>", "</p>"]
)
@pytest.mark.slow
def test_pages_made_to_be_slow_are_not(part: str) -> None:
    html_to_markdown((part * 50_000).encode())
