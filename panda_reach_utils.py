"""What the scripts share: the command line, agent files, evaluation and its table."""

import contextlib
import dataclasses
import errno
import functools
import inspect
import io
import itertools
import json
import math
import os
import pickle
import re
import shlex
import shutil
import sys
import threading
import typing
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol

import gymnasium as gym
import numpy as np
import rich.box
import rich.console
import rich.table
import torch
import typeguard
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor

import panda_reach_env  # registers PandaReach-v2

ROOT = Path(__file__).resolve().parent
AGENTS = ROOT / "rl-trained-agents"
RUNS = ROOT / "runs"

# Training draws its goals from --seed on upwards; these are drawn from far above, so
# that no agent is judged on goals that it was trained on.
HELD_OUT_SEED = 1_000_000


class UsageError(ValueError):
    """A mistake of the person's, told in one line: exit code 2, no traceback."""


# ---------------------------------------------------------------- command line


# Flags that may be left out: --help shows what they take, and no None.
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
OptionalStr = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]


def cli(function: Callable[..., int | None]) -> NoReturn:
    """Call ``function`` with the command line's arguments, and exit with what it returns.

    Exit code 2 and one line on stderr for a person's mistake; 0 when the window is
    closed or Ctrl-C pressed. A bug keeps its traceback.
    """

    if sys.stdout is None:  # a program may run with it closed
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name can be any bytes
    # tyro hands on defaults too; --resume wants to know what was typed.
    flags = [word.partition("=")[0] for word in sys.argv[1:] if word.startswith("--")]
    typed = {flag[2:].replace("-", "_").removeprefix("no_") for flag in flags}
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}

    @functools.wraps(function)
    def parse(**arguments: Any) -> Callable[[], int | None]:
        given = {n: v for n, v in arguments.items() if n in typed or v != defaults[n]}
        return functools.partial(function, **given)

    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            call = tyro.cli(parse, prog=Path(sys.argv[0]).name)
    except SystemExit as stop:
        if stop.code:
            _fail(_in_one_line(box.getvalue()))
        raise
    # TensorBoard's thread meets a full disk first, and raises it here too: once will do.
    threading.excepthook = lambda failed: (
        None if issubclass(failed.exc_type, OSError) else threading.__excepthook__(failed)
    )
    try:
        code = call()
        sys.stdout.flush()
        sys.exit(code)
    except (UsageError, panda_reach_env.DisplayError) as mistake:
        _fail(str(mistake))
    except KeyboardInterrupt:  # before there was anything to save or to tell
        print("Stopped.", file=sys.stderr)
        sys.exit(0)
    except panda_reach_env.WindowClosed:
        sys.exit(0)
    except OSError as error:
        gone = error.errno == errno.EPIPE  # the reader of our output: `| head -1`
        full = error.errno in (errno.ENOSPC, errno.EFBIG)
        if not (gone or full or error.filename):
            raise
        # What is left to print would fail once more when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if gone:
            sys.exit(0)
        _fail(f"cannot write {error.filename or 'any more'}: {error.strerror}")


def _in_one_line(box: str) -> str:
    """What tyro says of a wrong command line, in a box of several lines."""
    words = " ".join(re.sub(r"─+[^│]*|[│╭╮╰╯]", " ", box.split("╮", 1)[-1]).split())
    number = re.match(  # where one was expected, tyro tells of Python's types
        r"Error parsing (--\S+): .*?(?:from \[|base 10: |to float: )(.*?)(?:\]\. Got| Arg)"
        r".* helptext: --\S+ (INT|FLOAT) ",
        words,
    )
    if number is None:
        return words
    flag, value, kind = number.groups()
    return f"{flag} is {value}, but must be a {'whole ' if kind == 'INT' else ''}number"


def _fail(message: str) -> NoReturn:
    line = " ".join(message.splitlines())  # a file's name may have several
    print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr)
    sys.exit(2)


def check_range(low: float, high: float, **arguments: float | None) -> None:
    """Raises UsageError for an argument outside [``low``, ``high``]; None is let pass."""
    for name, value in arguments.items():
        if value is not None and not low <= value <= high:
            raise UsageError(
                f"--{name.replace('_', '-')} is {value}, but must be from {low:,g} to {high:,g}"
            )


def command(program: str, *arguments: str | Path) -> str:
    """A command line to copy: ``program`` of this Python's, run from the current folder."""

    def short(path: Path) -> str:
        relative = os.path.relpath(path)
        return str(path) if relative.startswith("..") else relative

    here = Path(sys.executable).with_name(program)
    words = [program if shutil.which(program) == str(here) else here, *arguments]
    return shlex.join(short(word) if isinstance(word, Path) else word for word in words)


# ---------------------------------------------------------------- the network's input


class RelativeGoal(BaseFeaturesExtractor):
    """Gives the network the way to the goal, on a scale it can work with.

    Stable-Baselines3's own extractor puts the hand's and the goal's position side by
    side, in metres. What counts is their difference; the network would first have to
    learn to subtract numbers of a few hundredths. Features: ``scale`` times the hand's
    position and the way from it to the goal, then ``observation`` as it is.

    Args:
        observation_space: PandaReach-v2's.
        scale: per m. 8 brings the 30 cm of the goals' cube to about +-1.
    """

    scale: torch.Tensor

    def __init__(self, observation_space: gym.spaces.Dict, scale: float = 8.0) -> None:
        super().__init__(observation_space, gym.spaces.flatdim(observation_space))
        # A buffer goes into the saved weights: they tell that they were made for this.
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        hand, goal = observations["achieved_goal"], observations["desired_goal"]
        return torch.cat(
            (self.scale * hand, self.scale * (goal - hand), observations["observation"]), dim=1
        )


# ---------------------------------------------------------------- agent files

# A hundred times an agent of ours: what is larger is no agent, but may be a zip bomb.
LARGEST_AGENT = 32 * 1024**2  # bytes, unpacked

ACTIVATIONS = {
    activation.__name__: activation
    for activation in (
        torch.nn.Tanh,
        torch.nn.ReLU,
        torch.nn.ELU,
        torch.nn.GELU,
        torch.nn.LeakyReLU,
        torch.nn.SiLU,
    )
}


def new_run(name: str | None, stem: str) -> str:
    """Reserve a name for a run by making ``runs/<name>/``: mkdir gives it to one only.

    Args:
        name: of the run; None for ``<stem>_<n>`` with the first n that is free.
        stem: see ``name``.

    Raises:
        UsageError: a name that is taken or can't be a file's; a folder without access.
    """
    if name is not None and (not name or Path(name).name != name or name.startswith(".")):
        raise UsageError(f"--name {name!r} must be a plain name, without a folder")
    for run in [name] if name else (f"{stem}_{n}" for n in itertools.count(1)):
        try:
            if not (AGENTS / f"{run}.zip").exists():
                (RUNS / run).mkdir(parents=True)
                return run
        except FileExistsError:
            pass
        except OSError as error:
            raise UsageError(f"cannot write {RUNS / run}: {error.strerror}") from None
    raise UsageError(f"there is a run {name} already: choose another --name, or --resume it")


# What a run's own, and not the agent's: a stranger's zip opens no window, and sends nothing.
NOT_SAVED = {"render", "name", "resume", "wandb"}


def resumable(train: Callable[..., Any]) -> Callable[..., Any]:
    """Let ``resume=ZIP`` bring back the arguments that ZIP's agent was trained with.

    An argument given beside ``resume`` counts more than the saved one.

    Raises:
        UsageError: see ``read_agent``; or saved arguments that ``train`` doesn't take.
    """
    signature = inspect.signature(train)
    hints = typing.get_type_hints(train)

    @functools.wraps(train)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        if given.get("resume") is not None:
            saved = read_agent(given["resume"]).arguments
            known = saved.keys() & signature.parameters.keys() - NOT_SAVED
            saved = {name: saved[name] for name in sorted(known)}
            for name, value in saved.items():
                try:
                    typeguard.check_type(value, hints[name])
                except typeguard.TypeCheckError:
                    raise UsageError(
                        f"{given['resume']} was not saved here: it has no sound {name}"
                    ) from None
            given = saved | given
        return train(**given)

    return wrapper


def save_agent(model: BaseAlgorithm, path: Path) -> None:
    """Write ``model`` to ``path`` as Stable-Baselines3 does, but whole or not at all.

    Raises:
        UsageError: the file can't be written; what stood there before is untouched.
    """
    contents = io.BytesIO()
    model.save(contents)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(contents.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


@dataclasses.dataclass(frozen=True)
class SavedAgent:
    """What is read of an agent's zip: nothing but numbers, lists and text."""

    parameters: dict[str, Any]
    """State dicts: ``"policy"`` (the weights) and ``"policy.optimizer"``."""
    num_timesteps: int
    arguments: dict[str, Any]
    """What ``train`` was called with; empty if another program saved the agent."""
    layers: dict[str, list[int]]
    """Units in the hidden layers of the policy (``pi``) and of the value (``vf``)."""
    activation: type[torch.nn.Module]
    n_actions: int
    use_sde: bool
    """Whether the exploration noise depends on the state: SB3's ``use_sde``."""


def read_agent(path: Path) -> SavedAgent:
    """Read a zip that Stable-Baselines3's PPO saved, without running anything in it.

    ``PPO.load`` unpickles, and a stranger's pickle can run any program. Here PyTorch
    reads tensors only, settings are read as JSON, and pickles are passed over.

    Raises:
        UsageError: missing, unreadable, no such zip, or weights that are not finite.
    """
    try:
        # No pipe and no device: some never end.
        small = path.stat().st_size <= LARGEST_AGENT and (path.is_file() or path.is_dir())
        contents = path.read_bytes() if small else b""
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read the agent {path}: {reason}") from None
    try:
        files = _unpack(contents)
        data = json.loads(files["data"])
        parameters = {}
        for name in ("policy", "policy.optimizer"):
            _unpack(files[f"{name}.pth"])  # a zip in its turn: is it small, too?
            parameters[name] = torch.load(
                io.BytesIO(files[f"{name}.pth"]), map_location="cpu", weights_only=True
            )
        weights = parameters["policy"]
        sizes = [tensor.numel() for tensor in weights.values() if tensor.is_floating_point()]
        # A tensor may claim more numbers than it has bytes for.
        if len(sizes) < len(weights) or 0 in sizes or sum(sizes) > LARGEST_AGENT // 4:
            raise ValueError("not weights")
        num_timesteps = int(data["num_timesteps"])
        if num_timesteps < 0:
            raise ValueError("negative")
        # SB3 writes beside each pickle what it holds, in words.
        activation = re.search(
            r"activation\.(\w+)", str(data["policy_kwargs"].get("activation_fn"))
        )
        agent = SavedAgent(
            parameters=parameters,
            num_timesteps=num_timesteps,
            arguments=dict(data.get("arguments", {})),
            layers={
                "pi": _layers(weights, "mlp_extractor.policy_net"),
                "vf": _layers(weights, "mlp_extractor.value_net"),
            },
            activation=ACTIVATIONS[activation[1] if activation else "Tanh"],
            n_actions=len(weights["action_net.bias"]),
            use_sde=weights["log_std"].ndim == 2,
        )
        finite = all(bool(tensor.isfinite().all()) for tensor in weights.values())
    except pickle.UnpicklingError:
        raise UsageError(
            f"{path} holds code where an agent has its weights; nothing of it was run"
        ) from None
    except Exception:  # a stranger's bytes can break any parser in any way
        raise UsageError(f"{path} is not an agent that Stable-Baselines3's PPO saved") from None
    if not finite:
        raise UsageError(f"{path} is a broken agent: some of its weights are not finite numbers")
    return agent


def _layers(weights: dict[str, torch.Tensor], net: str) -> list[int]:
    names = [f"{net}.{2 * i}.weight" for i in range(len(weights))]
    shapes = [tuple(weights[name].shape) for name in names if name in weights]
    # Layers that don't fit would be made far larger than what was read.
    if any(units != inputs for (units, _), (_, inputs) in itertools.pairwise(shapes)):
        raise ValueError("layers that don't fit")
    return [units for units, _ in shapes]


def _unpack(contents: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(contents)) as archive:
        if sum(member.file_size for member in archive.infolist()) > LARGEST_AGENT:
            raise ValueError("too large")
        return {name: archive.read(name) for name in archive.namelist()}


def restore(model: PPO, path: Path) -> None:
    """Give ``model`` the weights, the optimizer and the step count saved in ``path``.

    Raises:
        UsageError: see ``read_agent``; or an agent of other sizes, or of another goal
            scale, than ``model``.
    """
    agent = read_agent(path)
    policy, weights = model.policy, agent.parameters["policy"]
    try:
        if not all(weights[name].equal(buffer) for name, buffer in policy.named_buffers()):
            raise ValueError("another goal scale")
        # Adam's settings are this run's: one may have been given beside --resume.
        settings = policy.optimizer.state_dict()["param_groups"]
        agent.parameters["policy.optimizer"]["param_groups"] = settings
        model.set_parameters(agent.parameters)
        for weight, state in policy.optimizer.state.items():
            state["step"] = torch.tensor(float(state["step"]))
            shapes = {state["exp_avg"].shape, state["exp_avg_sq"].shape, weight.shape}
            if len(shapes) > 1 or not state["step"] >= 0:
                raise ValueError("another optimizer")
    except Exception:  # see read_agent
        raise UsageError(
            f"{path} is an agent of another kind than this run's: with another --control-type "
            "or --goal-scale, or not trained by this script"
        ) from None
    model.num_timesteps = agent.num_timesteps


def load_agent(
    path: Path, render_mode: str | None = None
) -> tuple[MultiInputActorCriticPolicy, gym.Env]:
    """A saved agent's policy, ready to ``predict``, and the environment that it fits.

    Raises:
        UsageError: see ``read_agent``; or an agent for another task.
        DisplayError: see ``PandaReachEnv``.
    """
    agent = read_agent(path)
    weights = agent.parameters["policy"]
    try:
        control_type = {3: "ee", 7: "joints"}[agent.n_actions]
    except KeyError:
        raise UsageError(
            f"{path} is an agent for another task: PandaReach-v2 has 3 actions (ee) or 7 (joints)"
        ) from None
    env = gym.make(
        "PandaReach-v2", render_mode=render_mode, reward_type="dense", control_type=control_type
    )
    try:
        assert isinstance(env.observation_space, gym.spaces.Dict)
        policy = MultiInputActorCriticPolicy(
            env.observation_space,
            env.action_space,
            lr_schedule=lambda _: 0.0,
            net_arch=agent.layers,
            ortho_init=False,  # slow for a large one, and the weights are there
            activation_fn=agent.activation,
            features_extractor_class=(
                RelativeGoal if "features_extractor.scale" in weights else CombinedExtractor
            ),
            use_sde=agent.use_sde,
        )
        policy.load_state_dict(weights)
    except Exception:  # see read_agent
        env.close()
        raise UsageError(
            f"{path} is an agent of another kind: only PPO's MultiInputPolicy on the "
            "observations of PandaReach-v2 plays here"
        ) from None
    policy.set_training_mode(False)
    return policy, env


# ---------------------------------------------------------------- evaluation


class Policy(Protocol):
    """What can be judged: an algorithm of Stable-Baselines3's, its policy, or what acts alike."""

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[Any, Any]: ...


@dataclasses.dataclass(frozen=True)
class Episode:
    """What one episode came to. Returns are undiscounted sums over its 50 steps."""

    success: bool
    """Within 5 cm of the goal at the last step."""
    dense_return: float
    """Sum of minus the distance (m), whatever the environment's reward is."""
    sparse_return: float
    """Minus the number of steps spent out of the goal's reach."""
    final_distance: float
    """m."""
    steps_to_goal: int | None
    """Steps until the goal was first reached; None if it never was."""


def play_episode(
    policy: Policy,
    env: gym.Env,
    seed: int | None = None,
    on_step: Callable[[int, float, bool], None] | None = None,
) -> Episode:
    """One episode with the most likely action at each step.

    ``on_step(step, distance, reached)`` is called after the reset (step 0) and each step.
    """
    observation, info = env.reset(seed=seed)
    distances, reached = [_distance(observation)], [info["is_success"]]
    truncated = False
    while not truncated:
        if on_step:
            on_step(len(distances) - 1, distances[-1], reached[-1])
        try:
            action, _ = policy.predict(observation, deterministic=True)
        except ValueError:  # PyTorch's distributions: weights that are finite, but beyond use
            raise UsageError("the agent is broken: its action is no finite number") from None
        observation, _, _, truncated, info = env.step(action)
        distances.append(_distance(observation))
        reached.append(info["is_success"])
    if on_step:
        on_step(len(distances) - 1, distances[-1], reached[-1])
    return Episode(
        success=reached[-1],
        dense_return=-sum(distances[1:]),
        sparse_return=float(sum(reached[1:]) - len(reached[1:])),
        final_distance=distances[-1],
        steps_to_goal=reached.index(True) if any(reached) else None,
    )


def _distance(observation: dict[str, np.ndarray]) -> float:
    return float(np.linalg.norm(observation["achieved_goal"] - observation["desired_goal"]))


def evaluate(
    policy: Policy,
    env: gym.Env,
    episodes: int,
    seed: int = HELD_OUT_SEED,
) -> list[Episode]:
    """``episodes`` goals that ``seed`` fixes, one after the other."""
    return [play_episode(policy, env, seed if i == 0 else None) for i in range(episodes)]


def summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Means over ``episodes``; the success rate with its 95% Wilson interval."""
    import scipy.stats  # here: it takes longer to import than all else but PyTorch

    successes = sum(episode.success for episode in episodes)
    interval = scipy.stats.binomtest(successes, len(episodes)).proportion_ci(method="wilson")
    steps = [e.steps_to_goal for e in episodes if e.steps_to_goal is not None]
    return {
        "episodes": len(episodes),
        "success_rate": successes / len(episodes),
        "success_interval": (float(interval.low), float(interval.high)),
        "mean_dense_return": float(np.mean([e.dense_return for e in episodes])),
        "mean_sparse_return": float(np.mean([e.sparse_return for e in episodes])),
        "mean_final_distance": float(np.mean([e.final_distance for e in episodes])),
        "worst_final_distance": max(e.final_distance for e in episodes),
        "came_to_goal": len(steps),
        "mean_steps_to_goal": float(np.mean(steps)) if steps else math.nan,
    }


def print_table(title: str, episodes: Sequence[Episode], **more: str) -> None:
    """The table that ends training and testing; ``more`` rows go below."""
    result = summary(episodes)
    low, high = result["success_interval"]
    table = rich.table.Table(title=title, box=rich.box.SIMPLE, show_header=False)
    table.add_row("episodes (held-out goals)", f"{result['episodes']:,}")
    table.add_row(
        "success rate",
        f"{result['success_rate']:.1%}  (95% interval {low:.1%} to {high:.1%})",
    )
    table.add_row("mean return, dense", f"{result['mean_dense_return']:.3f}")
    table.add_row("mean return, sparse", f"{result['mean_sparse_return']:.2f}")
    table.add_row("mean final distance", f"{result['mean_final_distance'] * 1000:.1f} mm")
    table.add_row("worst final distance", f"{result['worst_final_distance'] * 1000:.1f} mm")
    came = result["came_to_goal"]
    steps = f"{result['mean_steps_to_goal']:.1f} of 50" if came else "-"
    if 0 < came < len(episodes):  # many of those may have been close from the start
        steps += f", where it was reached ({came:,} of {len(episodes):,})"
    table.add_row("mean steps to the goal", steps)
    for name, value in more.items():
        table.add_row(name, value)
    console = rich.console.Console(highlight=False)
    with console.capture() as text:  # print() and not rich: it tells of a closed pipe
        console.print(table)
    print(text.get(), end="")
