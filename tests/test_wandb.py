"""Weights & Biases, offline: what it wrote."""

import os
from pathlib import Path

from tests.conftest import Run, assert_one_line

import pytest

SHORT = ("panda_reach_train_agent.py", "--total-timesteps", 2048, "--wandb")


@pytest.mark.slow
def test_offline_it_keeps_all_and_says_how_to_send_it(run: Run, clone: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    home = clone.parent / "home"  # without anybody's login
    home.mkdir()
    result = run(*SHORT, env=environment | {"HOME": str(home)}, stdin=-3)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Weights & Biases was offline" in result.stdout
    (folder,) = (clone / "wandb").glob("offline-run-*")
    assert f"wandb sync '{folder}'" in result.stdout
    (log,) = folder.glob("*.wandb")
    written = log.read_bytes()
    for word in (
        "gae_lambda",  # the hyperparameters
        "eval/success_rate",  # TensorBoard's scalars
        "train/loss",
        "eval/episode",  # the film strips
        "PandaReach_PPO_v2_ee_dense_1",  # the agent
    ):
        assert word.encode() in written, word
    assert list(folder.rglob("*.png"))


def test_without_the_package_it_is_reported_in_one_line(run: Run, clone: Path) -> None:
    (clone / "wandb.py").write_text("raise ImportError('not installed')")
    result = run(*SHORT)
    assert_one_line(result, "pip install wandb")
    assert not list((clone / "runs").glob("*_1"))
