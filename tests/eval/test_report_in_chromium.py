"""The page as a browser has it: nothing to complain of, filters that work, nothing wider than a phone, a PDF."""

from collections.abc import Generator
from pathlib import Path

import pytest
from tilth.core.records import Sample
from tilth.eval.report import ReportData, render

from ..chromium import CHROMIUM, Browser, browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: pages are not looked at in a browser"),
]

SHOWN = "[...document.querySelectorAll('#samples .sample')].filter((each) => each.checkVisibility()).length"
HOSTILE = (
    "</script><script>document.title = 'taken'</script>",
    '<a href="javascript:document.title = 1">x</a><img src=x onerror="document.title = 2">',
    "x" * 3_000,
    "\u202eright to left\u202c \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "😀 a\x00b \ud7ff {{ 7 * 7 }}",
)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Generator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def page(tmp_path: Path, report_page: str) -> str:
    (tmp_path / "report.html").write_text(report_page)
    return (tmp_path / "report.html").as_uri()


def choose(tab: Browser, name: str, value: str) -> int:
    """Set a filter and count the samples that are to be seen."""
    tab.evaluate(
        f"document.getElementById('filter-{name}').value = {value!r};"
        "document.getElementById('filter').dispatchEvent(new Event('input'))"
    )
    return tab.evaluate(SHOWN)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_nothing_is_complained_of(tab: Browser, page: str, width: int, dark: bool, tmp_path: Path):
    tab.open(page, width=width, dark=dark)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.complaints == []
    tab.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 100_000
    inks = "new Set([...document.querySelectorAll('svg.plot text')].map((each) => getComputedStyle(each).fill))"
    assert len(tab.evaluate(f"[...{inks}]")) == 2  # both are the style sheet's, in light and in dark
    assert tab.evaluate("[...document.querySelectorAll('svg.plot')].every((each) => each.getBBox().width > 200)")


def test_the_words_of_a_plot_lie_within_it(tab: Browser, page: str):
    tab.open(page)
    outside = """[...document.querySelectorAll('svg.plot')].flatMap((plot) => {
        const edge = plot.getBoundingClientRect();
        return [...plot.querySelectorAll('text')].filter((each) => {
            const box = each.getBoundingClientRect();
            return box.left < edge.left - 1 || box.right > edge.right + 1 || box.top < edge.top - 1;
        }).map((each) => each.textContent);
    })"""
    assert tab.evaluate(outside) == []


def test_samples_are_filtered_by_leaf_kind_author_and_words(tab: Browser, page: str):
    tab.open(page)
    assert tab.evaluate(SHOWN) == 0  # folded
    assert choose(tab, "kind", "skill") == 4
    assert choose(tab, "leaf", "1") == 0
    assert choose(tab, "kind", "") == 40
    assert tab.evaluate("document.getElementById('filter-count').textContent") == "40 of the samples shown here"
    assert choose(tab, "text", "FORM 0:") == 1
    assert choose(tab, "author", "1") == 1
    assert (
        tab.evaluate("document.querySelector('#samples .sample:not([hidden])').textContent").count("9f2b7c41d0e5") == 1
    )
    assert choose(tab, "text", "nothing says this") == 0
    assert tab.complaints == []


def test_hostile_text_does_nothing(tab: Browser, report_data: ReportData, tmp_path: Path):
    source = report_data.samples[0].source
    planted = tuple(
        Sample.new("skill", text, text, source.model_copy(update={"leaf": text, "teacher": text})) for text in HOSTILE
    )
    phases = tuple(report_data.phases[0].model_copy(update={"name": text}) for text in HOSTILE)
    text = render(
        report_data.model_copy(update={"samples": planted, "phases": phases, "title": HOSTILE[1] + HOSTILE[2]})
    )
    (tmp_path / "report.html").write_text(text)
    tab.open((tmp_path / "report.html").as_uri(), width=390)
    assert tab.complaints == []
    assert tab.evaluate("document.title").startswith('<a href="javascript:')
    assert tab.evaluate("document.querySelectorAll('img, a[href^=javascript]').length") == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert choose(tab, "text", "right to left") == 1


def test_it_can_be_printed(tab: Browser, page: str):
    tab.open(page)
    printed = tab.printed()
    assert printed.startswith(b"%PDF-")
    assert 4 <= printed.count(b"/Type /Page\n") <= 60
