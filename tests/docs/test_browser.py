"""The site in a real browser: pages load without a complaint and without a network, and the slider moves the curves."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from checks.pages import ROOT
from extensions import gallery
from extensions.gallery import pages, pictures
from proxconnect.inspection.plots import interactive_catalogue
from proxconnect.pairs import PAIRS, Pair

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.skipif(
        not (BROWSER and DRIVER),
        reason="there is no chromium with its chromedriver (Debian: chromium, chromium-driver)",
    ),
    pytest.mark.filterwarnings("ignore:.*is deprecated. Check CHANGES for Sphinx API modifications"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(executable_path=DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with all pairs."""
    path = tmp_path_factory.mktemp("page") / "all-pairs.html"
    interactive_catalogue(path)
    return path


def show(browser: Any, path: Path, width: int = 1280) -> None:
    """Open a file in a window of this width, with empty logs."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())


def requests(browser: Any) -> list[str]:
    """What was asked for since `show`."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def drawn(browser: Any) -> dict[tuple[str, str], str]:
    """By pair and part, the path of the line that is on the screen."""
    script = """
    const found = [];
    for (const panel of document.querySelectorAll("#pairs .scatterlayer"))
      for (const line of panel.querySelectorAll(".trace")) {
        const trace = line.__data__[0].trace, path = line.querySelector("path.js-line");
        found.push([trace.name, trace.meta, path ? path.getAttribute("d") : ""]);
      }
    return found"""
    return {(name, part): path for name, part, path in browser.execute_script(script)}


def move_to_the_end(browser: Any) -> None:
    """Drag the grip of the slider to its right end, as a hand does."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    grip, rail = (browser.find_element(By.CSS_SELECTOR, f".slider-{part}-rect") for part in ("grip", "rail"))
    way = rail.rect["x"] + rail.rect["width"] - grip.rect["x"] - grip.rect["width"] / 2
    ActionChains(browser).click_and_hold(grip).move_by_offset(round(way), 0).release().perform()


def test_it_loads_without_a_complaint_and_asks_for_nothing(browser: Any, page: Path) -> None:
    show(browser, page)
    assert browser.get_log("browser") == []
    assert [url for url in requests(browser) if not url.startswith("data:")] == [page.as_uri()]


def test_all_pairs_are_drawn_and_named(browser: Any, page: Path) -> None:
    show(browser, page)
    names = browser.execute_script("return [...document.querySelectorAll('.legendtext')].map(text => text.textContent)")
    assert names == list(PAIRS)
    parts = {(name, part) for name, pair in PAIRS.items() for part in ("FBPT" if isinstance(pair, Pair) else "FB")}
    paths = drawn(browser)
    assert set(paths) == parts
    assert all(path.count("L") > 100 or path.count(",") > 100 for path in paths.values())


def test_the_slider_moves_what_depends_on_it(browser: Any, page: Path) -> None:
    show(browser, page)
    before = drawn(browser)
    move_to_the_end(browser)
    after = drawn(browser)
    assert browser.execute_script("return document.querySelector('.slider-label').textContent") == "μ = 30"
    moved = {(name, part) for name, part in before if part != "B" and before[name, part] != after[name, part]}
    prox, corrections = ("pc", "parq", "binaryrelax", "md"), ("bnn++", "poly+", "ede+", "clip+", "erf+")
    assert moved == {(n, part) for n in prox for part in "FP"} | {(n, part) for n in corrections for part in "FT"}
    assert before["bnn+", "B"] != after["bnn+", "B"]
    for trace in browser.execute_script("return document.getElementById('pairs').data"):
        pair = PAIRS[trace["name"]]
        if trace["meta"] in "FB":
            x = torch.tensor(trace["x"], dtype=torch.float64)
            y = (pair.forward if trace["meta"] == "F" else pair.backward)(x, 30.0)
            torch.testing.assert_close(torch.tensor(trace["y"], dtype=torch.float64), y, rtol=0, atol=6e-5)


def test_the_legend_hides_a_pair_in_every_panel(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    show(browser, page)
    browser.find_elements(By.CSS_SELECTOR, ".legendtoggle")[list(PAIRS).index("bnn++")].click()
    hidden = (
        "return document.getElementById('pairs').data.filter(t => t.visible == 'legendonly').map(t => t.name + t.meta)"
    )
    WebDriverWait(browser, 5).until(lambda driver: driver.execute_script(hidden))  # it waits for a second click first
    assert browser.execute_script(hidden) == ["bnn++F", "bnn++B", "bnn++P", "bnn++T"]
    assert {name for name, _ in drawn(browser)} == set(PAIRS) - {"bnn++"}


@pytest.mark.parametrize(("width", "columns"), [(1280, 2), (390, 1)], ids=["desktop", "phone"])
def test_it_fits_its_window(browser: Any, page: Path, width: int, columns: int) -> None:
    show(browser, page, width)
    script = "return [document.documentElement.scrollWidth, document.getElementById('pairs').scrollWidth]"
    assert max(browser.execute_script(script)) <= width
    lefts = """
    const titles = [...document.querySelectorAll('#pairs .annotation .bg')];
    return titles.map(title => Math.round(title.getBoundingClientRect().left))"""
    assert len(set(browser.execute_script(lefts))) == columns


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The front page and the gallery, of three pairs."""
    from sphinx.application import Sphinx

    folder = tmp_path_factory.mktemp("site")
    docs, built = folder / "docs", folder / "built"
    for name in ("conf.py", "index.md", "gallery/index.md", "static/proxconnect.css", "pictures/pairs.png"):
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "docs" / name, docs / name)
    few = {name: PAIRS[name] for name in ("bc", "poly", "poly+")}
    with pytest.MonkeyPatch.context() as patch:
        for module in (gallery, pages, pictures):
            patch.setattr(module, "PAIRS", few)
        Sphinx(docs, docs, built, folder / "trees", "html", status=None, warning=None).build()
    return built


@pytest.mark.parametrize("name", ["index", "gallery/index", "gallery/pairs/poly-plus", "gallery/all-pairs"])
def test_pages_of_the_site_load_without_a_complaint(browser: Any, site: Path, name: str) -> None:
    path = site / f"{name}.html"
    show(browser, path)
    assert browser.get_log("browser") == []
    assert [url for url in requests(browser) if not url.startswith((site.as_uri(), "data:"))] == []


@pytest.mark.parametrize("width", [1280, 800, 390], ids=["desktop", "tablet", "phone"])
def test_the_gallery_has_the_page_with_the_slider_in_it(browser: Any, site: Path, width: int) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    show(browser, site / "gallery" / "index.html", width)
    frame = browser.find_element(By.TAG_NAME, "iframe")
    browser.execute_script("arguments[0].scrollIntoView()", frame)
    browser.switch_to.frame(frame)
    WebDriverWait(browser, 10).until(drawn)
    shown = browser.execute_script("return [document.documentElement.scrollHeight, window.innerHeight]")
    browser.switch_to.default_content()
    assert shown[0] <= shown[1], "the frame is too low for what is in it"


TABLE_OF_NETWORKS = """<!doctype html><title>networks</title>
<div class="networks"><table><thead><tr><th>network<th>library</thead><tbody>
<tr><td>ResNet18<td>torchvision<tr><td>resnet26<td>timm<tr><td>ViT<td>timm</tbody></table></div>
<script defer src="networks.js"></script>"""


def test_the_search_of_networks_hides_the_others(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    shutil.copy(ROOT / "docs" / "static" / "networks.js", tmp_path)
    (tmp_path / "networks.html").write_text(TABLE_OF_NETWORKS)
    show(browser, tmp_path / "networks.html")
    box, count = (browser.find_element(By.CSS_SELECTOR, name) for name in ("input", "output"))

    def shown() -> list[str]:
        return [row.text.split()[0] for row in browser.find_elements(By.CSS_SELECTOR, "tbody tr") if row.is_displayed()]

    assert (shown(), count.text) == (["ResNet18", "resnet26", "ViT"], "3 of 3 networks")
    box.send_keys("timm RESNET")
    assert (shown(), count.text) == (["resnet26"], "1 of 3 networks")
    box.clear()
    box.send_keys("no such network")
    assert (shown(), count.text) == ([], "0 of 3 networks")
    assert browser.get_log("browser") == []


def test_the_page_of_networks_has_the_table_and_the_script() -> None:
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    assert 'src="_static/networks.js"' in page
    assert ":::{div} networks" in page
