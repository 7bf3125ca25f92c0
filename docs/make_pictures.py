"""The README's pictures, each of the real thing. `make docs` runs this.

Needs Debian's packages xvfb, chromium and chromium-driver.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import gymnasium as gym
import PIL.Image
import screens
import Xlib.display
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from stable_baselines3.common.callbacks import BaseCallback

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

import panda_reach_train_agent as training  # noqa: E402
import panda_reach_utils as utils  # noqa: E402
from panda_reach_test_agent import Recording, test_agent  # noqa: E402


def make_pictures(only: tuple[str, ...] = ()) -> None:
    """Write the README's pictures into docs/.

    Args:
        only: some of window, training, test, tensorboard; nothing for all of them.
    """
    if missing := screens.missing():
        raise utils.UsageError(f"missing Debian packages: apt install {' '.join(missing)}")
    makers = {
        "window": window,
        "training": training_gif,
        "test": lambda: test_agent(record=DOCS / "test_agent.gif", render=False),
        "tensorboard": tensorboard,
    }
    for name in only or makers:
        if name not in makers:
            raise utils.UsageError(f"--only {name} is none of {', '.join(makers)}")
        makers[name]()


def window() -> None:
    """pybullet_simulation.png: the window, with the shipped agent at its goal."""
    with screens.virtual_screen() as display:
        os.environ["DISPLAY"] = display
        policy, env = utils.load_agent(
            utils.AGENTS / "PandaReach_PPO_v2_ee_dense.zip", render_mode="human"
        )
        utils.play_episode(policy, env, seed=utils.HELD_OUT_SEED + 4)
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
        self.env = gym.make("PandaReach-v2", reward_type="dense")

    def _on_rollout_start(self) -> None:
        if self.num_timesteps in self.at:
            self._film()

    def _on_training_end(self) -> None:
        self._film()

    def _on_step(self) -> bool:
        return True

    def _film(self) -> None:
        def on_step(step: int, distance: float, reached: bool) -> None:
            if step <= 30:
                caption = f"{self.num_timesteps:,} steps trained   {distance * 1000:.0f} mm"
                self.recording.add(self.env.get_wrapper_attr("picture")(), caption, reached)

        utils.play_episode(self.model, self.env, utils.HELD_OUT_SEED + 4, on_step)


def training_gif() -> None:
    """training.gif: the same goal at several moments of the default run."""
    recording = Recording(DOCS / "training.gif")
    hparams = training.resolve()
    model = training.make_model(**hparams)
    film = Film(recording, at=(0, 1024, 2048, 3072, 4096, 8192))
    model.learn(hparams["total_timesteps"], callback=film)
    recording.save()


def tensorboard() -> None:
    """tensorboard.png and tensorboard2.png: the shipped agents' curves, in a browser."""
    with tempfile.TemporaryDirectory() as folder:
        logdir = Path(folder)
        for agent in sorted(utils.AGENTS.glob("PandaReach_PPO_v2_*[a-z].zip")):
            (logdir / agent.stem).symlink_to(utils.RUNS / agent.stem)
        with screens.tensorboard(logdir) as address, screens.chromium() as browser:
            browser.set_window_size(1500, 1000)
            browser.get(address + "#timeseries")
            time.sleep(5)
            # As a person would leave it: settings folded, the runs' whole names and colours seen.
            browser.execute_script(
                "localStorage.setItem('_tb_global_settings', JSON.stringify("
                "{sideBarWidthInPercent: 25, timeSeriesSettingsPaneOpened: false}))"
            )
            browser.refresh()
            time.sleep(15)  # the cards come one after the other
            browser.save_screenshot(DOCS / "tensorboard2.png")
            tags = browser.find_element(By.CSS_SELECTOR, "input[placeholder^='Filter tags']")
            tags.send_keys("eval/success_rate|ep_rew_mean|mean_final", Keys.ESCAPE)
            time.sleep(10)
            browser.save_screenshot(DOCS / "tensorboard.png")
    for name in ("tensorboard.png", "tensorboard2.png"):
        picture = PIL.Image.open(DOCS / name).convert("RGB")
        picture.quantize(128).save(DOCS / name, optimize=True)


if __name__ == "__main__":
    utils.cli(make_pictures)
