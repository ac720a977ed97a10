"""HTML to the Markdown that `chunks.py` cuts: headings, paragraphs, lists, tables, code and quotations.

The standard library's `html.parser` is enough: it takes any text, and no tree is built that a hostile page could make
deep. Left out is what a reader of the page does not see or does not read: comments and declarations, scripts, styles
and templates, the head, drawings, embedded pages and players, the parts of forms, navigation, and whatever is hidden by
`hidden`, `aria-hidden` or a style of its own. Of a link its text is kept, of a picture its description.
"""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

from .formats import Unreadable
from .html_tables import Table

VERSION = 1
"""Raised when the same page gives other Markdown than before."""

MAX_DEPTH = 400
"""Open tags inside one another; real pages have 30."""

# fmt: off
_DROPPED = {
    "head", "script", "style", "template", "noscript", "svg", "math", "canvas", "iframe", "object", "audio", "video",
    "map", "nav", "button", "select", "textarea", "datalist", "dialog",
}
_VOID = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
}
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt", "fieldset",
    "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html", "legend",
    "li", "main", "menu", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr",
    "ul",
}
# fmt: on
_CLOSES = {
    "li": {"li"},
    "dt": {"dt", "dd"},
    "dd": {"dt", "dd"},
    "tr": {"tr", "td", "th"},
    "td": {"td", "th"},
    "th": {"td", "th"},
    "tbody": {"tr", "td", "th", "thead", "tbody"},
    "tfoot": {"tr", "td", "th", "thead", "tbody"},
}
"""Tag -> the open ones that it ends, up to the list or table that it is in; `</li>` and its like may be left out."""
_SCOPES = {"li": {"ul", "ol", "menu"}, "dt": {"dl"}, "dd": {"dl"}}
_TABLE = {"table"}
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)

# A declaration or a comment that is not closed hides the rest, as in a browser. html.parser would take quadratic time.
# What stands in scripts and styles is none of these, whatever it looks like.
_INVISIBLE = re.compile(
    r"<(script|style)(?=[\s/>])(?![^<>]*/>).*?(?:</\1[^>]*(?:>|\Z)|\Z)|<!--.*?(?:-->|\Z)|<[!?][^>]*(?:>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE | re.ASCII)
_ENCODINGS = re.compile(
    r"utf-?8|utf-?16(le|be)?|(us-)?ascii|latin-?1|iso-8859-\d\d?|windows-(125\d|874)|koi8-[ru]|gb2312|gbk|gb18030|big5"
    r"|shift[_-]jis|euc-(jp|kr)|iso-2022-jp"
)
_LARGER = dict.fromkeys(("iso-8859-1", "latin1", "latin-1", "ascii", "us-ascii"), "cp1252") | {
    "utf-8": "utf-8-sig",
    "utf8": "utf-8-sig",
    "iso-8859-9": "cp1254",
    "windows-874": "cp874",
}
_MARKUP = re.compile(r"(#{1,6}(?=\s|$)|`{3}|~{3}|[=-]+$|[-+*]\s|\d+(?=[.)]\s))")


def html_to_markdown(data: bytes) -> str:
    """The Markdown of a page. Raises Unreadable for a wrong encoding and for tags nested too deep."""
    parser = _Parser()
    # What is not closed at the end is dropped, as browsers do; the space lets a last `&amp` be read.
    parser.feed(_INVISIBLE.sub(" ", _decoded(data)) + " ")
    return parser.finished()


def _decoded(data: bytes) -> str:
    encoding = _encoding(data)
    try:
        return data.decode(encoding)
    except (UnicodeError, LookupError) as error:
        raise Unreadable(f"the page is no {encoding} text; save it as UTF-8") from error


def _encoding(data: bytes) -> str:
    """What the page declares, read as browsers do: the Latin names stand for Windows' larger sets."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    declared = _CHARSET.search(data[:2048])
    name = declared[1].decode().lower() if declared else "utf-8"
    if not _ENCODINGS.fullmatch(name):  # Python knows others, and some of them take quadratic time
        raise Unreadable(f"the page declares the encoding {name!r}, which is not read; save it as UTF-8")
    return _LARGER.get(name, name)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self._out: list[str] = []
        self._line: list[str] = []  # the paragraph, heading or cell that is being read
        self._open: list[tuple[str, bool]] = []  # tag, and whether it starts what is dropped
        self._num_open: Counter[str] = Counter()
        self._num_dropping = 0
        self._prefixes: list[str] = []  # what stands before each line: of lists and quotations, outermost first
        self._bullet = ""  # of the list item whose first line is still to come
        self._numbers: list[int] = []  # of the open lists, the next number; -1 without numbers
        self._pre: list[str] | None = None
        self._language = ""
        self._tables: list[Table] = []
        self._raised = False

    def finished(self) -> str:
        self._flush()
        while self._tables:
            self._end_table()
        return "".join(self._out).strip() + "\n"

    # What html.parser calls

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._close_implied(tag)
        if tag not in _VOID:
            hidden = "hidden" in given or given.get("aria-hidden") == "true" or _HIDDEN.search(given.get("style", ""))
            dropped = tag in _DROPPED or bool(hidden)
            self._open.append((tag, dropped))
            self._num_open[tag] += 1
            self._num_dropping += dropped
            if len(self._open) > MAX_DEPTH:
                raise Unreadable(f"the page's tags are nested more than {MAX_DEPTH} deep; save it as Markdown")
        if not self._num_dropping:
            self._start(tag, given)

    def handle_endtag(self, tag: str) -> None:
        if not self._num_open[tag]:
            return
        while True:
            last, dropped = self._open.pop()
            self._num_open[last] -= 1
            if not self._num_dropping:
                self._end(last)
            self._num_dropping -= dropped
            if last == tag:
                return

    def handle_data(self, data: str) -> None:
        if self._num_dropping:
            return
        if self._pre is not None:
            self._pre.append(data)
            return
        if self._raised and data[:1].isalnum():
            data = f"^{data}"  # 10³ must not become 103
        self._raised = False
        self._line.append(re.sub(r"\s+", " ", data))  # only <br> breaks a line

    # What the tags do

    def _close_implied(self, tag: str) -> None:
        if tag in _BLOCKS and self._num_open["p"]:
            self._end_up_to({"p"}, {"td", "th", "li", "table"})
        if tag in _CLOSES:
            self._end_up_to(_CLOSES[tag], _SCOPES.get(tag, _TABLE))

    def _end_up_to(self, ended: set[str], scope: set[str]) -> None:
        """End the outermost open tag of `ended` that is not outside of a tag of `scope`."""
        found = ""
        place = 0
        for index in range(len(self._open) - 1, -1, -1):
            tag = self._open[index][0]
            if tag in ended:
                found, place = tag, index
            if tag in scope:
                break
        while found and len(self._open) > place:
            self.handle_endtag(self._open[-1][0])

    def _start(self, tag: str, given: dict[str, str]) -> None:
        if tag in _BLOCKS:
            self._flush()
            self._start_block(tag, given)
        elif tag == "br":
            (self._line if self._pre is None else self._pre).append("\n")
        elif tag == "img":
            self._line.append(f" {given.get('alt', '')} ")
        elif tag == "code" and self._pre is None:
            self._line.append("`")
        elif tag == "sup":
            self._raised = bool(self._line) and self._line[-1][-1:].isalnum()
        if tag in ("code", "pre") and self._pre is not None:
            match = re.search(r"(?:language|lang)-([\w+#-]{1,20})", given.get("class", ""))
            self._language = match[1] if match else self._language

    def _start_block(self, tag: str, given: dict[str, str]) -> None:
        if tag == "pre":
            self._pre = self._pre or []
        elif tag in ("ul", "ol"):
            start = given.get("start", "1")
            self._numbers.append(-1 if tag == "ul" else int(start) if re.fullmatch(r"[0-9]{1,6}", start) else 1)
        elif tag == "li":
            self._start_item()
        elif tag == "blockquote":
            self._prefixes.append("> ")
        elif tag == "table":
            self._tables.append(Table())
        elif tag == "tr" and self._tables:
            self._tables[-1].start_row()
        elif tag in ("td", "th") and self._tables:
            self._tables[-1].start_cell(given.get("colspan", ""), given.get("rowspan", ""))

    def _end(self, tag: str) -> None:
        if tag in _BLOCKS and self._pre and tag != "pre" and not self._pre[-1].endswith("\n"):
            self._pre.append("\n")
        if tag in _BLOCKS and tag != "pre":
            self._flush(level=int(tag[1]) if re.fullmatch("h[1-6]", tag) else 0)
        if tag == "code" and self._pre is None:
            self._line.append("`")
        elif tag == "pre":
            self._end_pre()
        elif tag in ("ul", "ol") and self._numbers:
            self._numbers.pop()
            if self._out and self._out[-1].strip("> \n"):
                self._write("")
        elif (tag == "li" and self._numbers) or tag == "blockquote":
            self._bullet = ""
            self._prefixes.pop()
        elif tag == "table":
            self._end_table()
        elif tag == "sup":
            self._raised = False

    def _start_item(self) -> None:
        if not self._numbers:
            self._numbers.append(-1)
        number = self._numbers[-1]
        self._bullet = "- " if number < 0 else f"{number}. "
        self._numbers[-1] += number >= 0
        self._prefixes.append(" " * len(self._bullet))

    def _end_pre(self) -> None:
        code = "".join(self._pre or []).strip("\n").expandtabs()
        self._pre = None
        if self._tables:
            self._tables[-1].add_text(code)
        elif code.strip():
            longest = max((len(run) for run in re.findall("`+", code)), default=0)
            fence = "`" * max(3, longest + 1)
            self._write(f"{fence}{self._language}\n{code}\n{fence}\n")
        self._language = ""

    def _end_table(self) -> None:
        table = self._tables.pop()
        if self._tables:
            self._tables[-1].add_text(table.text())
        elif text := table.markdown():
            self._write(text)

    # What is written

    def _flush(self, level: int = 0) -> None:
        """The end of a paragraph, heading or cell."""
        lines = [" ".join(line.split()) for line in "".join(self._line).split("\n")]
        self._line.clear()
        text = "\n".join(line for line in lines if line and line != "``")
        if not text:
            return
        if self._tables:
            self._tables[-1].add_text(text)
        elif level:
            self._write(f"{'#' * level} {' '.join(text.split())}\n")
        else:
            plain = "\n".join(map(_escaped, text.split("\n")))
            self._write(plain + ("" if self._bullet else "\n"))

    def _write(self, text: str) -> None:
        """A block, its lines behind the marks of the lists and quotations that it stands in."""
        for index, line in enumerate(text.split("\n")):
            before = "".join(self._prefixes)
            if self._bullet and index == 0 and line:
                before = before.removesuffix(" " * len(self._bullet)) + self._bullet
                self._bullet = ""
            self._out.append(f"{before}{line}".rstrip() + "\n")


def _escaped(line: str) -> str:
    """A line of text that Markdown would take for something else."""
    match = _MARKUP.match(line)
    if not match:
        return line
    return f"{match[0]}\\{line[match.end() :]}" if match[0].isdigit() else f"\\{line}"
