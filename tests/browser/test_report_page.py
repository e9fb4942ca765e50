"""The report in a browser: nothing complains, nothing is fetched, nothing sticks out, switches and tables work."""

from pathlib import Path

import pytest
from browser.watching import Visit
from playwright.sync_api import Page
from report.runs import compared

from ctxblocks.report import write_report

SIZES = [(390, 844), (1440, 900)]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one."""
    folder = tmp_path_factory.mktemp("runs") / "comparison"
    compared(folder)
    return folder


@pytest.fixture(scope="module")
def report(comparison: Path, finished: tuple[Path, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a comparison and a reproduction."""
    out = tmp_path_factory.mktemp("pages") / "both.html"
    write_report([comparison, finished[0]], out)
    return out


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=["phone", "desk"])
def test_it_opens(scheme: str, size: tuple[int, int], report: Path, visit: Visit) -> None:
    """In either scheme, at either width, with everything unfolded; text and paper are far apart."""
    seen = visit(report, *size, color_scheme=scheme)
    assert seen.sticking_out() == []
    seen.page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert seen.sticking_out() == []
    ink, paper = (
        sum(map(int, seen.page.evaluate(f"getComputedStyle(document.body).{name}").strip("rgb()").split(",")))
        for name in ("color", "backgroundColor")
    )
    assert (ink > paper + 400) if scheme == "dark" else (paper > ink + 400)


def visible(page: Page, run: int, **data: str) -> int:
    """Parts of curves that can be seen in a run."""
    selector = "".join(f'[data-{name}="{value}"]' for name, value in data.items())
    return page.locator(f"#run-{run} .curve{selector}:not(.off)").count()


def test_switches(report: Path, visit: Visit) -> None:
    """A layer, a control and the bands go and come back, in all figures of their run and in no other."""
    page = visit(report).page
    others = visible(page, 1)
    for name, value in (("group", "gru"), ("control", "untrained"), ("part", "band")):
        before, all_of_it = visible(page, 0), visible(page, 0, **{name: value})
        assert all_of_it > 0
        buttons = page.locator(f'#run-0 .legend button[data-{name}="{value}"]')
        buttons.first.click()
        assert visible(page, 0, **{name: value}) == 0
        assert visible(page, 0) == before - all_of_it
        assert visible(page, 1) == others
        assert {each.get_attribute("aria-pressed") for each in buttons.all()} == {"false"}
        assert not page.locator(f'#run-0 .curve[data-{name}="{value}"]').first.is_visible()
        buttons.last.click()
        assert visible(page, 0) == before


def test_two_switches_add_up(report: Path, visit: Visit) -> None:
    """What one has taken away another does not bring back."""
    page = visit(report).page
    group, control = (
        page.locator(f"#run-0 .legend button[data-{each}]").first for each in ('group="gru"', 'control="untrained"')
    )
    group.click()
    control.click()
    assert visible(page, 0, group="gru") == visible(page, 0, control="untrained") == 0
    control.click()
    assert visible(page, 0, group="gru") == 0


def column(page: Page, table: int, place: int) -> list[str]:
    cells = page.locator("#run-0 table.sortable").nth(table).locator(f"tbody tr td:nth-child({place + 1})")
    return [text.strip() for text in cells.all_inner_texts()]


def test_tables_sort(report: Path, visit: Visit) -> None:
    """By number, not by letters; up, then down; the other columns come along."""
    page = visit(report).page
    table = page.locator("#run-0 table.sortable").nth(1)
    pairs = set(zip(column(page, 1, 0), column(page, 1, 2), strict=True))
    head = table.locator("th").nth(2)
    for order, descending in (("ascending", False), ("descending", True)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        values = [float(text.split(" ")[0]) for text in column(page, 1, 2)]
        assert values == sorted(values, reverse=descending)
        assert set(zip(column(page, 1, 0), column(page, 1, 2), strict=True)) == pairs
    table.locator("th").nth(0).locator("button").click()
    assert column(page, 1, 0) == sorted(column(page, 1, 0))
    assert head.get_attribute("aria-sort") == "none"


def test_numbers_sort_as_numbers(report: Path, visit: Visit) -> None:
    """One digit, two digits, an exponent and a sign; empty cells last both ways."""
    page = visit(report).page
    page.evaluate(
        """() => { const rows = [["9"], ["10"], ["5e-4"], [""], ["-3"], ["2"]];
        document.querySelector("#run-0 table.sortable:not(.claims) tbody").innerHTML = rows.map(([v]) =>
          `<tr><td class="number" data-value="${v}">${v}</td></tr>`).join(""); }"""
    )
    head = page.locator("#run-0 table.sortable").nth(1).locator("th button").first
    head.click()
    assert column(page, 1, 0) == ["-3", "5e-4", "2", "9", "10", ""]
    head.click()
    assert column(page, 1, 0) == ["10", "9", "2", "5e-4", "-3", ""]


def test_the_theme_can_be_chosen(report: Path, visit: Visit) -> None:
    """As the system, light, dark, and round again."""
    page = visit(report, color_scheme="dark").page
    seen = []
    for _ in range(4):
        seen.append(
            (page.locator("#theme").inner_text(), page.evaluate("getComputedStyle(document.body).backgroundColor"))
        )
        page.locator("#theme").click()
    dark, light = "rgb(22, 24, 28)", "rgb(255, 255, 255)"
    names = ["theme: as the system", "theme: light", "theme: dark", "theme: as the system"]
    assert seen == list(zip(names, [dark, light, dark, dark], strict=True))


def test_it_prints_on_white(report: Path, visit: Visit) -> None:
    """Whatever the screen's colours are, without what only a screen can do."""
    page = visit(report, color_scheme="dark").page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#theme").is_visible()
    assert len(page.pdf()) > 10_000


def test_everything_can_be_reached_by_keys(report: Path, visit: Visit) -> None:
    """Switches and heads are buttons."""
    page = visit(report).page
    button = page.locator("#run-0 .legend button").first
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
