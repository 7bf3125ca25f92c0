"""A real TensorBoard on a new run, read in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests import screens
from tests.conftest import Run, assert_fine, eventually, need

pytestmark = pytest.mark.slow


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    need("chromium")
    need("chromedriver")
    with screens.chromium() as browser:
        yield browser


def wait(browser: webdriver.Chrome, script: str) -> None:
    """Until the script's value is true."""
    try:
        eventually(lambda: browser.execute_script(f"return {script}"))
    except AssertionError:
        pytest.fail(browser.execute_script("return document.body.innerText"))


def test_a_new_runs_curves_hparams_and_film_strips(
    call: Run, tmp_path: Path, browser: webdriver.Chrome
) -> None:
    small = ("--n-envs", 2, "--batch-size", 32, "--total-timesteps", 128, "--no-subprocesses")
    assert_fine(call("panda_reach_train_agent.py", *small, "--name", "a-new-run"))
    with screens.tensorboard(tmp_path / "runs") as address:
        browser.get(address + "#timeseries&tagFilter=eval%7Cfilm")
        wait(browser, "document.body.innerText.includes('a-new-run')")
        wait(browser, "document.body.innerText.includes('/mean_final_distance')")
        wait(
            browser,
            "[...document.querySelectorAll('img')].some(i => i.src.includes('imageData')"
            " && i.naturalWidth === 720 && i.naturalHeight === 240)",
        )

        browser.get("about:blank")
        browser.get(address + "#hparams")
        text = (
            "(function all(n) {return (n.textContent || '') + [...n.querySelectorAll('*')]"
            ".map(e => (e.shadowRoot ? all(e.shadowRoot) : '')"
            " + (e.contentDocument ? all(e.contentDocument.body) : '')).join(' ')})(document.body)"
        )
        for word in ("gae_lambda", "learning_rate", "goal_scale", "eval/success_rate", "a-new-run"):
            wait(browser, f"{text}.includes('{word}')")
