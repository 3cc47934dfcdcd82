"""The page in a real browser: tables, theme, slider, values under the pointer, print.

Set AVALANCHE_EXT_ARTEFACTS to a folder to keep the pictures that the tests take.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from avalanche_ext.report.page import write_page
from tests.report.page import browser
from tests.results.trees import write_experiment, write_failure, write_result

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=str(browser.missing()))

# Accuracies after the third experience of methods in their order; of `lost` no run has finished.
LAST = {"base": 0.5, "two": 0.25, "ten": 0.75, "lost": None}
LAST |= {f"e{k}": 0.1 + k / 100 for k in range(5)}
FINISHED = [name for name, last in LAST.items() if last is not None]
BEST_FIRST = ["ten", "two", "e4", "e3", "e2", "e1", "e0"]


def matrix(last: float) -> list[list[float]]:
    return [[0.9, 0.1, 0.1], [0.8, 0.9, 0.1], [last, last, last]]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("page") / "exp"
    write_experiment(directory, [*LAST], [0, 1], baseline="base")
    for method, last in LAST.items():
        for seed in (0, 1):
            if last is None:
                write_failure(directory, method, seed, "out of <memory> & time")
            else:
                write_result(directory, method, seed, matrix(last + seed / 100))
    other = directory.parent / "other"
    write_experiment(other, ["base"], [0])
    write_result(other, "base", 0, matrix(0.5))
    return write_page([directory, other]).as_uri()


@pytest.fixture(scope="module")
def started() -> Iterator[Chrome]:
    with browser.chromium() as driver:
        yield driver


@pytest.fixture
def page(started: Chrome, address: str) -> Iterator[Chrome]:
    """The page, just loaded where the system prefers light colours, and without errors after."""
    browser.prefer(started, "light")
    started.get(address)
    started.execute_script("localStorage.clear(); location.reload()")
    yield started
    assert browser.console(started) == []


@pytest.fixture
def artefacts(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("AVALANCHE_EXT_ARTEFACTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def find(page: Chrome, selector: str) -> WebElement:
    return page.find_element(By.CSS_SELECTOR, selector)


def column(page: Chrome, number: int = 1) -> list[str]:
    """A column of the first experiment's methods, as far as it is shown."""
    rows = page.find_elements(By.CSS_SELECTOR, "#experiment-1-methods tbody tr")
    return [
        row.find_element(By.CSS_SELECTOR, f":nth-child({number})").text
        for row in rows
        if row.is_displayed()
    ]


def heading(page: Chrome, name: str) -> WebElement:
    xpath = f"//*[@id='experiment-1-methods']//th[normalize-space()='{name}']"
    return page.find_element(By.XPATH, xpath)


def paper(page: Chrome) -> str:
    return page.execute_script("return getComputedStyle(document.body).backgroundColor")


def tip(page: Chrome) -> str:
    return find(page, "#tip").text


def test_nothing_but_the_page_is_asked_for(started: Chrome, address: str) -> None:
    browser.requested(started)
    started.get(address)
    asked = browser.requested(started)
    assert address in asked
    assert all(url == address or url.startswith("data:") for url in asked)


def test_a_click_on_a_heading_sorts_numbers_and_names_the_undefined_last(page: Chrome) -> None:
    assert column(page) == FINISHED
    button = heading(page, "vs base").find_element(By.TAG_NAME, "button")
    button.click()
    assert column(page) == [*BEST_FIRST, "base"]
    assert heading(page, "vs base").get_attribute("aria-sort") == "descending"
    button.send_keys(Keys.ENTER)
    assert column(page) == [*BEST_FIRST[::-1], "base"]
    assert heading(page, "vs base").get_attribute("aria-sort") == "ascending"
    heading(page, "method").find_element(By.TAG_NAME, "button").click()
    assert column(page) == sorted(FINISHED)
    assert heading(page, "vs base").get_attribute("aria-sort") is None


def test_a_filter_leaves_the_rows_with_its_text(page: Chrome) -> None:
    field = find(page, "#experiment-1-methods input")
    field.send_keys("T")
    assert column(page) == ["two", "ten"]
    assert find(page, "#experiment-1-methods output").text == "2 of 8 rows"
    field.clear()
    field.send_keys(" ")
    assert column(page) == FINISHED


def test_the_theme_is_the_systems_until_it_is_chosen_and_then_remembered(page: Chrome) -> None:
    assert paper(page) == "rgb(255, 255, 255)"
    browser.prefer(page, "dark")
    dark = paper(page)
    assert dark != "rgb(255, 255, 255)"
    button = find(page, "#theme")
    assert button.text == "theme: automatic"
    button.click()
    assert button.text == "theme: light"
    assert paper(page) == "rgb(255, 255, 255)"
    page.refresh()
    assert paper(page) == "rgb(255, 255, 255)"
    browser.prefer(page, "light")
    for _ in range(2):
        find(page, "#theme").click()
    assert find(page, "#theme").text == "theme: dark"
    assert paper(page) == dark


def test_the_slider_shows_the_accuracies_after_an_earlier_experience(page: Chrome) -> None:
    def cells() -> list[str]:
        row = "#experiment-1-stream .heat tbody tr:first-child td"
        return [cell.text for cell in page.find_elements(By.CSS_SELECTOR, row)]

    assert cells() == ["0.505"] * 3
    slider = find(page, "#experiment-1-stream input[type=range]")
    slider.send_keys(Keys.ARROW_LEFT)
    assert cells() == ["0.800", "0.900", "0.100"]
    assert find(page, "#experiment-1-stream output").text == "after experience 2 of 3"
    later = page.find_elements(By.CSS_SELECTOR, "#experiment-1-stream tbody tr:first-child .later")
    assert [cell.text for cell in later] == ["0.100"]
    slider.send_keys(Keys.HOME)
    assert cells() == ["0.100"] * 3
    assert find(page, "#experiment-1-stream output").text == "untrained"


def test_pictures_say_the_value_under_the_pointer_and_under_the_arrow_keys(page: Chrome) -> None:
    plot = find(page, "#experiment-1-accuracy .plot")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    points = page.execute_script(
        "return JSON.parse(document.querySelector('#experiment-1-accuracy .points').textContent)"
    )
    texts = [each[2] for each in points]
    (place,) = [i for i, each in enumerate(texts) if each.startswith("ten, after experience 3")]
    x, y, text = points[place]
    assert text == "ten, after experience 3: 0.755 ± 0.007"
    scale = page.execute_script(
        "const svg = arguments[0].querySelector('svg');"
        "return svg.getBoundingClientRect().width / svg.viewBox.baseVal.width",
        plot,
    )
    svg = plot.find_element(By.TAG_NAME, "svg")
    middle = (svg.size["width"] / 2, svg.size["height"] / 2)
    pointer = ActionChains(page, duration=0)
    pointer.move_to_element_with_offset(
        svg, round(x * scale - middle[0]) + 1, round(y * scale - middle[1])
    ).perform()
    assert tip(page) == text
    # The ring is where the marker is drawn.
    ring = find(page, "#experiment-1-accuracy .mark").rect
    marker = page.execute_script(
        """
        const [x, y] = arguments;
        const hits = document.elementsFromPoint(x, y).map((each) => each.tagName);
        return hits""",
        ring["x"] + ring["width"] / 2,
        ring["y"] + ring["height"] / 2 - page.execute_script("return scrollY"),
    )
    assert "use" in marker
    ActionChains(page, duration=0).move_to_element(find(page, "h1")).perform()
    assert not find(page, "#tip").is_displayed()
    plot.send_keys(Keys.ARROW_RIGHT)
    assert tip(page) == texts[place + 1]


def test_a_matrix_says_the_cell_under_the_pointer(page: Chrome) -> None:
    svg = find(page, "#experiment-1-stream .multiples figure:nth-child(2) svg")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", svg)
    cell = svg.size["width"] / 3
    ActionChains(page, duration=0).move_to_element_with_offset(
        svg, round(-cell), round(svg.size["height"] / 2 - 1.5 * cell)
    ).perform()
    assert tip(page) == "two, after experience 2, on experience 1: 0.800"


def test_failed_runs_say_why_as_they_wrote_it(page: Chrome) -> None:
    find(page, "#experiment-1 > details:first-of-type summary").click()
    rows = page.find_elements(By.CSS_SELECTOR, "#experiment-1-runs tbody tr")
    assert len(rows) == 2 * len(LAST)
    assert "failed: out of <memory> & time" in rows[2 * [*LAST].index("lost")].text
    warning = find(page, "#experiment-1 .warning").text
    assert warning.splitlines() == ["2 runs failed:", "lost, seeds 0, 1: out of <memory> & time"]


def test_what_columns_hold_opens_under_the_keyboard(page: Chrome) -> None:
    definitions = find(page, "#experiment-1-against-ACC .definitions")
    holds = definitions.find_element(By.TAG_NAME, "dl")
    assert not holds.is_displayed()
    definitions.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    assert "seeds for which the method has the higher value; a tie counts half" in holds.text


def test_a_heading_sorts_under_the_keyboard_and_says_in_which_direction(page: Chrome) -> None:
    heading = find(page, "#experiment-1-methods thead th")
    button = heading.find_element(By.TAG_NAME, "button")
    assert heading.get_attribute("aria-sort") is None
    for direction in ("ascending", "descending"):
        button.send_keys(Keys.ENTER)
        assert heading.get_attribute("aria-sort") == direction


def test_paper_shows_what_is_folded_away(page: Chrome, tmp_path: Path) -> None:
    folded = "return document.querySelectorAll('details:not([open])').length"
    before = page.execute_script(folded)
    assert before > 3
    page.execute_script(
        f"addEventListener('beforeprint', () => {{ window.onPaper = (() => {{ {folded} }})(); }})"
    )
    browser.printed(page, tmp_path / "page.pdf")
    assert page.execute_script("return window.onPaper") == 0
    assert page.execute_script(folded) == before


def test_paper_cuts_no_table(page: Chrome) -> None:
    """Laid out in print's rules at the width of the paper, nothing is wider than that."""
    a4_landscape = round((297 - 2 * 12) / 25.4 * 96)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    metrics = {"width": a4_landscape, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.execute_script("document.querySelectorAll('details').forEach((e) => e.open = true)")
        width = page.execute_script("return document.documentElement.scrollWidth")
        assert width <= a4_landscape
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_pictures_of_the_page_are_kept(page: Chrome, artefacts: Path) -> None:
    for theme in ("light", "dark"):
        browser.prefer(page, theme)
        path = browser.picture(page, artefacts / f"report-{theme}.png")
        with Image.open(path) as picture:
            colours = picture.convert("RGB").getcolors(2**24)
        share, paper = max(colours)
        assert share > 0.5 * sum(n for n, _ in colours)
        assert (np.mean(paper) > 128) == (theme == "light")
        assert len(colours) > 100
    printed = browser.printed(page, artefacts / "report.pdf")
    assert printed.read_bytes().startswith(b"%PDF")
