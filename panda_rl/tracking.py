"""Where the curves go: TensorBoard, and Weights & Biases on request."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panda_rl import cli, files
from panda_rl.errors import UsageError

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import configure
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread


@contextlib.contextmanager
def tensorboard(model: BaseAlgorithm, folder: Path) -> Iterator[None]:
    """Log the training of ``model`` to ``folder``.

    Raises:
        OSError: the disk is full. TensorBoard's thread notices it first and would print a
            traceback, so that is suppressed.
    """
    usual = threading.excepthook
    threading.excepthook = lambda failed: (
        None if isinstance(failed.thread, _AsyncWriterThread) else usual(failed)
    )
    try:
        model.set_logger(configure(str(folder), ["tensorboard"]))
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # it has been raised once already
                model.logger.close()
            raise
        model.logger.close()
    finally:
        threading.excepthook = usual


@contextlib.contextmanager
def weights_and_biases(agent_path: Path, curves: Path, config: dict[str, Any]) -> Iterator[None]:
    """Copy curves to Weights & Biases, and the agent at the end. Offline without a login.

    Enter this before ``tensorboard``, whose output it copies.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        import wandb as package
    except ImportError:
        raise UsageError("--wandb needs one more package: pip install wandb") from None
    wandb: Any = package
    online = os.environ.get("WANDB_MODE") != "offline" and wandb.login(prompt=False)
    wandb.tensorboard.patch(root_logdir=str(curves))  # copy what TensorBoard gets
    session = wandb.init(
        project="panda-reach",
        name=agent_path.stem,
        config=config,
        dir=files.ROOT,
        mode="online" if online else "offline",
        settings=wandb.Settings(silent=True, console="off"),
    )
    try:
        yield
    finally:
        if agent_path.exists():
            artifact = wandb.Artifact(agent_path.stem.replace(" ", "_"), type="model")
            artifact.add_file(str(agent_path))
            session.log_artifact(artifact)
        if online:
            print("Weights & Biases:", session.url)
        else:
            sync = cli.command("wandb", "sync", Path(session.dir).parent)
            print(f"Weights & Biases was offline. To upload, log in and run: {sync}")
        session.finish()
        wandb.tensorboard.unpatch()
