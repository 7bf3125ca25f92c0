"""Weights & Biases, offline: what it wrote."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Run


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_offline_it_keeps_the_curves_and_the_config(run: Run, clone: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    environment["HOME"] = str(clone.parent)  # without anybody's login
    result = run(
        "panda_reach_train_agent.py",
        *("--total-timesteps", 512, "--gamma", 0.625, "--wandb"),
        env=environment,
        stdin=subprocess.DEVNULL,  # it must not ask
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (log,) = clone.parent.glob("**/wandb/offline-run-*/*.wandb")
    written = log.read_bytes()
    for word in ("gamma", "0.625", "eval/success_rate", "train/loss"):
        assert word.encode() in written, word
