"""index.html in a headless Chromium, opened from disk: it sorts, filters, fits a phone, is dark where asked, asks for
nothing. CI installs Chromium and requires it; elsewhere these tests are skipped where there is none."""

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from gazepipe.report.html import number

pytestmark = pytest.mark.slow

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WINDOW = (1300, 900)
PHONE = (390, 844)
READABLE = 4.5
"""Contrast of text that WCAG 2.1 asks for at level AA."""
CONTRASTS = """
const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parsed = (text) => text.match(/[0-9.]+/g).map(Number);
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const colour = parsed(getComputedStyle(node).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const found = {};
for (const name of arguments[0]) {
  for (const node of document.querySelectorAll(name)) {
    const [a, b] = [parsed(getComputedStyle(node).color), behind(node)].map(light).sort((x, y) => y - x);
    found[name] = Math.min(found[name] || 99, (a + 0.05) / (b + 0.05));
  }
}
return found;
"""
TEXTS = [
    "h1",
    "h2",
    "p",
    "li",
    "dt",
    "a",
    "caption",
    "th",
    "td",
    "code",
    "pre",
    "summary span",
    "label",
    "input",
    "blockquote p",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        said = "needs Chromium and its driver: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("GAZEPIPE_CHROMIUM") == "required" else pytest.skip)(said)
    options = ChromeOptions()
    options.binary_location = program
    # Root, as in a container, has no sandbox; /dev/shm is small there.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def show(browser, paged) -> Callable[..., Chrome]:
    """Open the page, in a window of this size and with this colour scheme."""

    def opened(size: tuple[int, int] = WINDOW, scheme: str = "light", script: bool = True, media: str = "") -> Chrome:
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        preferred = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preferred, "media": media})
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get((paged.folder / "index.html").as_uri())
        if script:
            ready = "return document.documentElement.dataset.ready === 'yes'"
            WebDriverWait(browser, 30).until(lambda it: it.execute_script(ready))
        return browser

    return opened


def table(page: Chrome, section: str, place: int = 0) -> WebElement:
    return page.find_elements(By.CSS_SELECTOR, f"#{section} table.sorts")[place]


def column(rows: WebElement, place: int) -> list[str]:
    """The texts of a column's cells in the rows that are shown."""
    return [row.find_elements(By.TAG_NAME, "td")[place].text for row in rows.find_elements(By.CSS_SELECTOR, "tbody tr")]


def heads(rows: WebElement) -> list[WebElement]:
    return rows.find_elements(By.CSS_SELECTOR, "thead th")


def press(page: Chrome, element: WebElement) -> None:
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def sort_by(page: Chrome, rows: WebElement, place: int, direction: str) -> None:
    """Click on a column's head, and wait until the table says that it is sorted so: it is sorted after the click."""
    press(page, heads(rows)[place].find_element(By.CSS_SELECTOR, ".dt-column-order"))
    WebDriverWait(page, 10).until(lambda _: heads(rows)[place].get_attribute("aria-sort") == direction)


def requested(page: Chrome) -> list[str]:
    """The addresses that the page asked for since it was opened."""
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    return [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]


def test_it_opens_without_an_error_and_without_a_network(show, paged):
    page = show()
    page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    assert page.get_log("browser") == []
    asked = requested(page)
    assert (paged.folder / "index.html").as_uri() in asked
    assert {address.partition(":")[0] for address in asked} <= {"file", "data", "blob"}
    assert page.title == "gazepipe benchmark: default run"  # and nothing that a subject's name says


def test_a_click_on_a_head_sorts_by_number(show):
    page = show()
    rows = table(page, "benchmark")
    before = column(rows, 1)
    sort_by(page, rows, 1, "ascending")
    ascending = column(rows, 1)
    assert [number(text) for text in ascending] == sorted(number(text) for text in before)
    assert ascending != sorted(before), "the texts are sorted otherwise"
    sort_by(page, rows, 1, "descending")
    assert column(rows, 1) == ascending[::-1]


def test_cells_without_a_number_come_last_both_ways(show):
    page = show()
    rows = table(page, "near-eye-gaze-point-in-the-scene-image")
    [place] = [index for index, head in enumerate(heads(rows)) if head.text == "Params"]
    assert "" in column(rows, place)
    for direction in ("ascending", "descending"):
        sort_by(page, rows, place, direction)
        assert column(rows, place)[-1] == ""


def test_the_keyboard_sorts(show):
    page = show()
    rows = table(page, "benchmark")
    page.execute_script("arguments[0].focus()", heads(rows)[1].find_element(By.CSS_SELECTOR, "[tabindex]"))
    page.switch_to.active_element.send_keys(Keys.ENTER)
    WebDriverWait(page, 10).until(lambda _: heads(rows)[1].get_attribute("aria-sort") == "ascending")


def test_the_search_box_hides_rows(show):
    page = show()
    rows = table(page, "benchmark")
    everything = column(rows, 0)
    box = rows.find_element(By.XPATH, "ancestor::div[contains(@class, 'dt-container')]//input[@type='search']")
    box.send_keys("KD")
    WebDriverWait(page, 10).until(lambda _: len(column(rows, 0)) < len(everything))
    assert column(rows, 0) == [name for name in everything if "KD" in name]
    box.send_keys(Keys.BACKSPACE * 2)
    WebDriverWait(page, 10).until(lambda _: column(rows, 0) == everything)


def test_a_columns_list_hides_rows(show):
    page = show()
    rows = table(page, "does-it-help")
    there = column(rows, 0)
    assert len(set(there)) > 1
    press(page, heads(rows)[0].find_element(By.CSS_SELECTOR, ".dtcc-button"))
    choices = page.find_elements(By.CSS_SELECTOR, ".dtcc-dropdown .dtcc-list-buttons button")
    assert [choice.text for choice in choices] == sorted(set(there))
    choices[0].click()
    WebDriverWait(page, 10).until(lambda _: set(column(rows, 0)) == {sorted(set(there))[0]})


@pytest.mark.parametrize("size", [PHONE, (320, 640), (768, 1000), WINDOW])
def test_the_page_never_scrolls_sideways(show, size):
    page = show(size)
    page.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    assert page.execute_script("return document.documentElement.scrollWidth") <= size[0]
    wide = "return [...document.querySelectorAll('table')].filter((t) => t.scrollWidth > innerWidth).length"
    if size == PHONE:
        assert page.execute_script(wide) > 0, "tables are wider than a phone, and scroll in their box"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_schemes(show, scheme):
    page = show(scheme=scheme)
    page.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    found = page.execute_script(CONTRASTS, TEXTS)
    assert set(found) == set(TEXTS)
    assert {name: ratio for name, ratio in found.items() if ratio < READABLE} == {}
    paper = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, paper[4:-1].split(","))) < 64) == (scheme == "dark")


def test_without_script_everything_is_there(show):
    page = show(script=False)
    assert page.get_log("browser") == []
    rows = page.find_elements(By.CSS_SELECTOR, "main table.sorts tbody tr")
    assert len(rows) > 20
    assert all(row.is_displayed() for row in rows)
    assert page.find_elements(By.CSS_SELECTOR, "input") == []
    names = [heading.text for heading in page.find_elements(By.TAG_NAME, "h2")]
    assert {"Benchmark", "Files", "Methods", "Provenance"} <= set(names)
    card = page.find_element(By.CSS_SELECTOR, "#methods details")
    assert not card.find_element(By.TAG_NAME, "table").is_displayed()
    card.find_element(By.TAG_NAME, "summary").click()
    assert card.find_element(By.TAG_NAME, "table").is_displayed()


def test_headings_captions_and_texts_of_pictures(show):
    page = show()
    levels = [int(each.tag_name[1]) for each in page.find_elements(By.CSS_SELECTOR, "h1, h2, h3, h4, h5, h6")]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    captions = page.find_elements(By.CSS_SELECTOR, "table > caption")
    assert len(captions) == len(page.find_elements(By.CSS_SELECTOR, "main table"))
    assert all(caption.get_attribute("textContent") for caption in captions)
    pictures = page.find_elements(By.CSS_SELECTOR, "img")
    assert pictures
    assert all(picture.get_attribute("alt") for picture in pictures)
    assert all(page.execute_script("return arguments[0].naturalWidth", each) > 0 for each in pictures)
    targets = [link.get_attribute("href").partition("#")[2] for link in page.find_elements(By.CSS_SELECTOR, "nav a")]
    assert all(page.find_elements(By.ID, target) for target in targets)


def test_links_lead_to_files(show, paged):
    page = show()
    links = [link.get_attribute("href") for link in page.find_elements(By.CSS_SELECTOR, "main a[href]")]
    files = [Path(link.removeprefix("file://")) for link in links if link.startswith("file://") and "#" not in link]
    assert paged.folder / "tables/benchmark.csv" in files
    assert [file for file in files if not file.exists()] == []


def test_on_paper_there_is_no_menu(show):
    page = show(media="print")
    assert not page.find_element(By.TAG_NAME, "nav").is_displayed()
    assert not any(box.is_displayed() for box in page.find_elements(By.CSS_SELECTOR, "input"))
    card = page.find_element(By.CSS_SELECTOR, "#methods details table")
    assert card.rect["height"] > 0, "closed cards are printed, too"
