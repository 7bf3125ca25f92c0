"""The README's pictures, each of the real thing. `make docs` runs this.

Needs Debian's packages xvfb, chromium and chromium-driver.

    python -m docs.make_pictures
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import gymnasium as gym
import PIL.Image
import tyro
import Xlib.display
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from stable_baselines3.common.callbacks import BaseCallback

import panda_reach_train_agent as training
from benchmarks.ship import CUBE_AGENTS, REACH_AGENTS
from panda_rl import agents, cli, evaluation
from panda_rl.recipes import RECIPES
from panda_rl.recording import Recording
from tests import screens

DOCS = cli.ROOT / "docs"
GOAL = evaluation.JUDGING_SEED + 4  # one to which the arm has some way to go
Picture = Literal["window", "training", "test", "push", "pick_and_place", "tensorboard"]


def make_pictures(only: tuple[Picture, ...] = ()) -> None:
    """Write the README's pictures into docs/.

    Args:
        only: some of them; by default all.
    """
    if missing := screens.missing():
        raise cli.UsageError(f"missing Debian packages: apt install {' '.join(missing)}")
    makers: dict[Picture, Callable[[], None]] = {
        "window": window,
        "training": training_gif,
        "test": lambda: record(REACH_AGENTS["ee", "dense"], "test_agent.gif", 5),
        "push": lambda: record(CUBE_AGENTS["Push"], "push.gif", 3),
        "pick_and_place": lambda: record(CUBE_AGENTS["PickAndPlace"], "pick_and_place.gif", 3),
        "tensorboard": tensorboard,
    }
    for name in only or makers:
        makers[name]()


def window() -> None:
    """pybullet_simulation.png: the window, with the shipped agent at its goal."""
    with screens.virtual_screen() as display:
        os.environ["DISPLAY"] = display
        env = gym.make("PandaReach-v2", render_mode="human")
        agent = agents.read(REACH_AGENTS["ee", "dense"])
        evaluation.play(agent.policy(env), env, GOAL)
        time.sleep(1)  # the window draws in its own time
        root = Xlib.display.Display(display).screen().root
        bullet = next(w for w in root.query_tree().children if "Bullet" in (w.get_wm_name() or ""))
        screens.screenshot(bullet).save(DOCS / "pybullet_simulation.png", optimize=True)
        env.close()
        del os.environ["DISPLAY"]


class Film(BaseCallback):
    """An episode now and then, with the steps trained so far written in it."""

    def __init__(self, recording: Recording, at: tuple[int, ...]) -> None:
        super().__init__()
        self.recording = recording
        self.at = at
        self.env = gym.make("PandaReach-v2")

    def _on_rollout_start(self) -> None:
        if self.num_timesteps in self.at:
            self._film()

    def _on_training_end(self) -> None:
        self._film()

    def _on_step(self) -> bool:
        return True

    def _film(self) -> None:
        def film(step: int, distance: float, reached: bool) -> None:
            if step <= 30:
                caption = f"{self.num_timesteps:,} steps   {distance * 1000:.0f} mm"
                self.recording.add(self.env.get_wrapper_attr("picture")(), caption, reached)

        evaluation.play(self.model, self.env, GOAL, film)


def training_gif() -> None:
    """training.gif: the same goal at several moments of the default run."""
    recording = Recording(DOCS / "training.gif")
    config = dataclasses.replace(RECIPES["ee", "dense"], subprocesses=False)
    model = training.make_model(config, training.make_env(config))
    film = Film(recording, at=(0, 1024, 2048, 3072, 4096, 8192))
    model.learn(config.total_timesteps, callback=film)
    recording.save()


def record(agent: Path, gif: str, episodes: int) -> None:
    """What the test script records of an agent."""
    words = ("panda_reach_test_agent.py", agent, "--no-render", "--record", DOCS / gif)
    command = [sys.executable, *words, "--episodes", episodes]
    subprocess.run([str(word) for word in command], cwd=cli.ROOT, check=True)


def tensorboard() -> None:
    """tensorboard.png, tensorboard2.png: the shipped agents' curves and configs, in a browser."""
    with tempfile.TemporaryDirectory() as folder:
        logdir = Path(folder)
        for agent in REACH_AGENTS.values():
            (logdir / agent.stem).symlink_to(cli.RUNS / agent.stem)
        with screens.tensorboard(logdir) as address, screens.chromium() as browser:
            browser.set_window_size(1500, 1000)
            browser.get(address + "#timeseries&smoothing=0")
            time.sleep(5)
            # As a person would leave it: settings folded, the runs' whole names and colours seen.
            # Smoothed, runs that are solved at 10,000 steps would seem to rise until 80,000.
            browser.execute_script(
                "localStorage.setItem('_tb_global_settings', JSON.stringify({scalarSmoothing: 0, "
                "sideBarWidthInPercent: 25, timeSeriesSettingsPaneOpened: false}))"
            )
            browser.refresh()
            time.sleep(15)  # the cards come one after the other
            tags = browser.find_element(By.CSS_SELECTOR, "input[placeholder^='Filter tags']")
            tags.send_keys("eval/success_rate|ep_rew_mean|mean_final", Keys.ESCAPE)
            time.sleep(10)
            browser.save_screenshot(DOCS / "tensorboard.png")
            browser.get("about:blank")  # or the page would only scroll
            browser.get(address + "#hparams")
            time.sleep(15)
            browser.save_screenshot(DOCS / "tensorboard2.png")
    for name in ("tensorboard.png", "tensorboard2.png"):
        picture = PIL.Image.open(DOCS / name).convert("RGB")
        picture.quantize(128).save(DOCS / name, optimize=True)


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(make_pictures))
