# Chromium for tests of what is drawn in a browser, cut off from every network.
from __future__ import annotations

import os
import shutil

import pytest

from captum_infomask.report.page import page_html

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
)

# What a colour of CSS is seen as, from 0 to 1: WCAG's relative luminance.
LUMINANCE = """(colour) => {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const parts = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((c) => c / 255);
  const linear = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}"""


def chromium_path() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def chromium_fixture():
    """A fixture for one test file: Playwright's event loop must be gone before the next one."""

    @pytest.fixture(scope="module")
    def chromium():
        api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
        path = chromium_path()
        if path is None:
            pytest.skip("no browser: Debian's package is called chromium")
        with api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
            yield browser
            browser.close()

    return chromium


class Offline:
    """A page of a browser without a network, with what it asked for and what it complained of."""

    def __init__(self, browser, **settings):
        self.context = browser.new_context(**settings)
        self.context.set_offline(True)
        self.page = self.context.new_page()
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("dialog", self._refuse)
        self.page.route("**/*", self._only_files)

    def _refuse(self, dialog):
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    @staticmethod
    def _only_files(route):
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            route.abort()

    def open(self, path):
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".cim-side")
        self.settle()
        return self.page

    def settle(self):
        """Wait until what was asked for is drawn."""
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def close(self):
        self.context.close()


def set_slider(page, selector, value):
    """Move a slider as a pointer would; returns where it came to stand."""
    return page.eval_on_selector(
        selector,
        """(slider, value) => {
          slider.value = value;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
          return slider.value;
        }""",
        str(value),
    )


def page_fixtures(content, height=900):
    """Fixtures of a report's page: the browser's tab for a test file, and the page for each test.

    After each test the page must have asked for nothing outside itself, and complained of nothing.

    Args:
        content: Makes the page's content.
        height: The window's height in pixels.
    """

    @pytest.fixture(scope="module")
    def viewer(chromium, tmp_path_factory):
        path = tmp_path_factory.mktemp("page") / "report.html"
        path.write_text(page_html(content()), encoding="utf-8")
        opened = Offline(chromium, viewport={"width": 1300, "height": height})
        opened.path = path
        yield opened
        opened.close()

    @pytest.fixture
    def page(viewer):
        viewer.requests.clear()
        viewer.complaints.clear()
        yield viewer.open(viewer.path)
        assert viewer.complaints == []
        own = ("file:", "data:", "blob:")
        assert [url for url in viewer.requests if not url.startswith(own)] == []

    return viewer, page
