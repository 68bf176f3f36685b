# The widget: its state in Python, and the viewer in a live JupyterLab.
from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import chromium_fixture, set_slider
from page_content import HEIGHT, WIDTH, maps, page_content, rule_of

from captum_infomask import ArgumentError, AtLeast, MaxFraction, threshold_mask
from captum_infomask.report import widget as widget_module
from captum_infomask.report.payload import page_payload
from captum_infomask.report.smoothing import shown_mask
from captum_infomask.report.widget import viewer_widget

pytestmark = pytest.mark.slow

chromium = chromium_fixture()

CELLS = (
    "from page_content import page_content\n"
    "from captum_infomask.report.widget import viewer_widget\n"
    "viewer = viewer_widget(page_content())\n"
    "viewer",
    'print("threshold", viewer.threshold)',
    'viewer.threshold = ("at_least", 1.5)\nprint("set")',
)
SECONDS = 60


@pytest.fixture
def made():
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    return viewer_widget(page_content(threshold=("at_least", 0.5)))


def test_the_widget_holds_the_payload_and_the_threshold(made):
    assert made.payload == page_payload(page_content(threshold=("at_least", 0.5)))
    assert made.threshold == ("at_least", 0.5)
    state = made.get_state()
    json.dumps(state["payload"], allow_nan=False)
    assert "export default { render }" in state["_esm"]
    made.set_state({"threshold": ["max_fraction", 0.3]})  # as the browser sends it
    assert made.threshold == ("max_fraction", 0.3)


@pytest.mark.parametrize("wrong", [("otsu", 0.2), ("max_fraction", "0.2"), ("max_fraction",)])
def test_a_threshold_that_the_viewer_has_not_is_refused(made, wrong):
    import traitlets

    with pytest.raises(traitlets.TraitError):
        made.threshold = wrong
    assert made.threshold == ("at_least", 0.5)


def test_without_anywidget_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    widget_module._widget_class.cache_clear()
    with pytest.raises(ArgumentError, match=r"pip install 'captum-infomask\[notebook\]'"):
        viewer_widget(page_content())
    monkeypatch.undo()
    widget_module._widget_class.cache_clear()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def notebook(path):
    cells = [
        {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "id": f"cell{k}"}
        | {"execution_count": None}
        for k, source in enumerate(CELLS)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(made))


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory):
    """The address of a live JupyterLab with one notebook, which knows these tests' modules."""
    for needed in ("jupyterlab", "anywidget", "ipykernel"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    home = tmp_path_factory.mktemp("jupyter")
    notebook(home / "viewer.ipynb")
    port = free_port()
    options = (
        "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--ServerApp.root_dir={home}",
        "--IdentityProvider.token=", "--ServerApp.password=",
        "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    )  # fmt: skip
    tests = Path(__file__).parent
    paths = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    folders = {
        name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "HOME")
    }
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=os.environ | folders | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/api", server, home / "log")
        yield address
    finally:
        # The server shuts its kernels down itself, given the time to.
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for(address, server, log):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def masks(page):
    read = page.evaluate(
        """() => [...document.querySelectorAll(".cim-stage-mask canvas")].map((canvas) =>
          btoa(String.fromCharCode(
            ...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)))"""
    )
    return [
        np.frombuffer(base64.b64decode(text), np.uint8).reshape(HEIGHT, WIDTH, 4)[..., 3] > 0
        for text in read
    ]


def check_styles(page):
    """The notebook's styles are not the viewer's, but its theme is."""
    styles = page.locator(".cim-facts dt").evaluate(
        "(e) => [getComputedStyle(e).float, getComputedStyle(e).fontWeight]"
    )
    assert styles == ["none", "400"]
    luminances = {}
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })",
            theme,
        )
        light = str(theme.endswith("Light")).lower()
        page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")
        colour = page.locator(".cim").evaluate("(e) => getComputedStyle(e).backgroundColor")
        luminances[theme] = sum(int(part) for part in colour[4:-1].split(","))
    assert luminances["JupyterLab Light"] > 700
    assert luminances["JupyterLab Dark"] < 100


def check_enlarging(page):
    """A map is enlarged by the keyboard and by a click, and JupyterLab's keys stay out of it."""
    small = page.locator(".cim-card .cim-stage-overlay").nth(1)
    dialog = page.locator("dialog.cim-enlarged")
    cells = page.locator(".jp-Cell").count()
    small.focus()
    page.keyboard.press("Enter")
    assert dialog.evaluate("(e) => e.open")
    photo, shown = (
        page.locator(f"dialog .cim-stage-{kind}").bounding_box() for kind in ("photo", "overlay")
    )
    assert (photo["width"], photo["y"]) == pytest.approx((shown["width"], shown["y"]))
    assert shown["width"] > 400
    for key in ("a", "b", "d", "d", "ArrowRight"):
        page.keyboard.press(key)
    assert page.locator(".cim-spot").text_content().startswith("x ")
    page.keyboard.press("Escape")
    assert not dialog.evaluate("(e) => e.open")
    page.wait_for_function("() => document.activeElement.closest('.cim-card')")
    assert small.evaluate("(e) => e === document.activeElement")
    assert page.locator(".jp-Cell").count() == cells
    small.click()
    assert dialog.evaluate("(e) => e.open")
    page.locator("dialog .cim-stage-overlay").click()
    assert not dialog.evaluate("(e) => e.open")
    page.get_by_label("Same scale").check()
    page.get_by_text("full colour is").wait_for()


@pytest.mark.filterwarnings("ignore:The mask of example")
def test_the_viewer_works_in_a_live_jupyterlab(chromium, jupyterlab):
    shown = [made for made in maps() if made.plane is not None]

    def expected(rule):
        planes = [(torch.from_numpy(made.plane)[None, None], made.unit) for made in shown]
        masks = [threshold_mask(plane, rule_of(unit, rule))[0, 0] for plane, unit in planes]
        return [shown_mask(mask.numpy()) for mask in masks]

    def wait_until_masks_are(rule):
        page.wait_for_timeout(100)
        right = expected(rule)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if all((a == b).all() for a, b in zip(masks(page), right, strict=True)):
                return
            page.wait_for_timeout(100)
        raise AssertionError(rule)

    elsewhere = []

    def only_here(route):
        if route.request.url.startswith((jupyterlab, "data:", "blob:")):
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(SECONDS * 1000)
    page.route("**/*", only_here)
    page.goto(f"{jupyterlab}/lab/tree/viewer.ipynb")
    page.wait_for_function("window.jupyterapp")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.evaluate(
        """async () => {
          const { sessionContext } = window.jupyterapp.shell.currentWidget.context;
          await sessionContext.ready;  // else a dialog asks for a kernel
          await sessionContext.session.kernel.info;
          await window.jupyterapp.commands.execute("notebook:run-all-cells");
        }"""
    )
    page.wait_for_selector(".cim-card")
    outputs = page.locator(".jp-OutputArea-output pre")
    outputs.get_by_text("set").wait_for()
    # The third cell ran too: Python moved the slider.
    wait_until_masks_are(AtLeast(1.5))
    assert page.locator(".cim-threshold").input_value() == "1.5"

    page.get_by_label("share of maximum").check()
    value = float(set_slider(page, ".cim-threshold", 0.435))
    assert value == 0.435
    wait_until_masks_are(MaxFraction(value))
    changed = sum(
        (a != b).sum()
        for a, b in zip(expected(MaxFraction(value)), expected(AtLeast(1.5)), strict=True)
    )
    assert changed > 500

    check_enlarging(page)

    # And Python reads where the slider stands.
    page.locator(".jp-Cell").nth(1).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    outputs.get_by_text("threshold ('max_fraction', 0.435)").wait_for()

    check_styles(page)
    assert elsewhere == []
    page.close()
