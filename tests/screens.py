"""A virtual screen, TensorBoard and a browser for it: for the pictures and for the tests.

Debian's packages xvfb, chromium and chromium-driver.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import Xlib.X
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PACKAGES = {"Xvfb": "xvfb", "chromium": "chromium", "chromedriver": "chromium-driver"}


def missing() -> list[str]:
    """The Debian packages that are not installed."""
    return [package for program, package in PACKAGES.items() if not shutil.which(program)]


@contextlib.contextmanager
def virtual_screen() -> Iterator[str]:
    """A virtual screen's DISPLAY; PyBullet's real window opens on it."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x1024x24", "-noreset"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as number:
        display = f":{number.readline().strip()}"
    try:
        yield display
    finally:
        server.terminate()
        server.wait()


def screenshot(drawable: Any) -> PIL.Image.Image:
    """What an Xlib window shows."""
    size = drawable.get_geometry()
    raw = drawable.get_image(0, 0, size.width, size.height, Xlib.X.ZPixmap, 0xFFFFFFFF).data
    return PIL.Image.frombytes("RGB", (size.width, size.height), raw, "raw", "BGRX")


@contextlib.contextmanager
def tensorboard(logdir: Path) -> Iterator[str]:
    """The address of a TensorBoard that shows ``logdir``."""
    program = Path(sys.executable).with_name("tensorboard")
    server: Any = subprocess.Popen(
        [program, "--logdir", logdir, "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    try:
        found = (re.search(r"http://localhost\S+", line) for line in server.stderr)
        yield next(address[0] for address in found if address)
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """A headless browser that leaves the network alone."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",  # the tests may run as root
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=1400,1000",
    ):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield browser
    finally:
        browser.quit()
