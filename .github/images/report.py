"""Take the picture of the quickstart's page.

    avalanche-ext run experiments/quickstart.yaml
    python .github/images/report.py results/quickstart

It writes report.png beside this file, and needs Chromium and its chromedriver.
"""

import io
import json
import sys
from pathlib import Path

from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By

from avalanche_ext.report.page import write_page

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
from tests.report.page import browser  # noqa: E402

WIDTH, BELOW = 1360, 30
POINT = "ber, after experience 4"


def take(page: Path) -> Image.Image:
    """The page down to its first figure, sorted by ACC, with the pointer on a point."""
    with browser.chromium(WIDTH, 900) as driver:
        browser.prefer(driver, "light")
        driver.get(page.resolve().as_uri())
        figure = driver.find_element(By.CSS_SELECTOR, "#experiment-1-accuracy")
        driver.set_window_size(WIDTH, round(figure.rect["y"] + figure.rect["height"]) + 140)
        driver.find_elements(By.CSS_SELECTOR, "#experiment-1-methods thead button")[1].click()
        points = json.loads(
            figure.find_element(By.CSS_SELECTOR, ".points").get_attribute("textContent")
        )
        x, y, _ = next(point for point in points if point[2].startswith(POINT))
        svg = figure.find_element(By.TAG_NAME, "svg")
        scale = svg.size["width"] / float(svg.get_dom_attribute("viewBox").split()[2])
        middle = svg.size["width"] / 2, svg.size["height"] / 2
        pointer = ActionChains(driver, duration=0)
        pointer.move_to_element_with_offset(
            svg, round(x * scale - middle[0]), round(y * scale - middle[1])
        ).perform()
        picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
        bottom = figure.rect["y"] + figure.rect["height"] + BELOW
        return picture.crop((0, 0, picture.width, min(picture.height, round(bottom))))


if __name__ == "__main__":
    picture = take(write_page([Path(sys.argv[1])]))
    picture.quantize(256, dither=Image.Dither.NONE).save(HERE / "report.png", optimize=True)
