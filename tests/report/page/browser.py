"""A headless Chromium, driven by Selenium through the system's chromedriver."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # Root has none.
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--hide-scrollbars",
)


def missing() -> str | None:
    """Return what a test in a browser lacks here; None if it lacks nothing."""
    programs = ("chromium", "chromedriver")
    absent = [name for name in programs if not shutil.which(name)]
    return f"no {' and no '.join(absent)} here (Debian: chromium-driver)" if absent else None


@contextmanager
def chromium(width: int = 1280, height: int = 900) -> Iterator[Chrome]:
    """Start a browser with a profile of its own, and end it."""
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        driver = Chrome(options, Service(str(shutil.which("chromedriver"))))
        try:
            driver.get("about:blank")
            requested(driver)  # Those of the browser's own first page.
            yield driver
        finally:
            driver.quit()


def console(driver: Chrome) -> list[str]:
    """Return what the page has written to its console, errors of scripts included."""
    return [entry["message"] for entry in driver.get_log("browser")]


def requested(driver: Chrome) -> list[str]:
    """Return the addresses that the browser has asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def prefer(driver: Chrome, scheme: str) -> None:
    """Let the system prefer "dark" or "light"."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def picture(driver: Chrome, path: Path, **options: Any) -> Path:
    """Write a picture of the whole page as PNG."""
    taken = driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True, **options}
    )
    path.write_bytes(base64.b64decode(taken["data"]))
    return path


def printed(driver: Chrome, path: Path) -> Path:
    """Print the page as PDF."""
    done = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    path.write_bytes(base64.b64decode(done["data"]))
    return path
