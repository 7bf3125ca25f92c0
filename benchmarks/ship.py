"""The shipped agents: train them, and write what each came to into rl-trained-agents/README.md."""

import shlex
import subprocess
import sys
from pathlib import Path

import torch
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import panda_reach_utils as utils  # noqa: E402

# Longer than the defaults, which are enough to reach the goals: these reach them precisely.
TOTAL_TIMESTEPS = {"dense": 61_440, "sparse": 102_400}
# Of the seeds 0 to 2 the most precise, on goals that are neither training's nor held out.
SEEDS = {("joints", "dense"): 2}
VARIANTS = [(control, reward) for reward in TOTAL_TIMESTEPS for control in ("ee", "joints")]

ABOUT = """# The shipped agents

Each made by the training script's defaults for its variant, only longer, and judged on
{episodes:,} goals that it was not trained on (seed {seed:,}). [What can be hoped
for](../benchmarks/README.md#what-can-be-hoped-for) tells how good these numbers can be. This table
is written by `python benchmarks/ship.py`; with `--train`, the agents are first trained anew, in
their place, by the commands below (by hand, leave out `--name`: these runs exist). For `joints` and
the dense reward it is the most precise of three seeds, on goals that are neither training's nor
these; the others have seed 0. Seconds are those of training, on two cores.

With `joints`, seven angles move a hand in three dimensions, and the observation tells of the hand
only: the other four drift unseen, and now and then carry the hand millimetres or even centimetres
off its goal late in an episode. That is where the worst distances come from.

"""


def ship(train: bool = False, episodes: int = 1000) -> None:
    """Train the four shipped agents, and write the table of how good they are.

    Args:
        train: train them anew, in place of those that are there.
        episodes: held-out goals to judge each one on.
    """
    torch.set_num_threads(1)
    commands, rows = [], []
    for control_type, reward_type in VARIANTS:
        name = f"PandaReach_PPO_v2_{control_type}_{reward_type}"
        agent = utils.AGENTS / f"{name}.zip"
        flags = {
            "control-type": control_type,
            "reward-type": reward_type,
            "total-timesteps": TOTAL_TIMESTEPS[reward_type],
            "seed": SEEDS.get((control_type, reward_type), 0),
            "name": name,
        }
        words = [str(word) for flag, value in flags.items() for word in (f"--{flag}", value)]
        words.insert(0, "panda_reach_train_agent.py")
        if train:
            agent.unlink(missing_ok=True)
            for curve in (utils.RUNS / name).glob("*"):
                curve.unlink()
            if (utils.RUNS / name).exists():
                (utils.RUNS / name).rmdir()
            subprocess.run([sys.executable, *words], cwd=ROOT, check=True)
        commands.append(shlex.join(["python", *words]))
        rows.append(row(agent, episodes))
    columns = "agent | steps | seconds | success rate (95% interval) | mean return, dense | sparse"
    columns += " | mean final distance | worst"
    lines = [f"| {columns} |", "|" + " --- |" * (columns.count("|") + 1), *rows]
    about = ABOUT.format(episodes=episodes, seed=utils.HELD_OUT_SEED)
    text = about + "\n".join(lines) + "\n\n```bash\n" + "\n".join(commands) + "\n```\n"
    (utils.AGENTS / "README.md").write_text(text)
    print(text)


def row(agent: Path, episodes: int) -> str:
    policy, env = utils.load_agent(agent)
    result = utils.summary(utils.evaluate(policy, env, episodes))
    env.close()
    low, high = result["success_interval"]
    steps = utils.read_agent(agent).num_timesteps
    curves = EventAccumulator(str(utils.RUNS / agent.stem)).Reload()
    cells = (
        f"`{agent.name}`",
        f"{steps:,}",
        f"{steps / curves.Scalars('time/fps')[-1].value:.0f}",
        f"{result['success_rate']:.1%} ({low:.1%} to {high:.1%})",
        f"{result['mean_dense_return']:.3f}",
        f"{result['mean_sparse_return']:.2f}",
        f"{result['mean_final_distance'] * 1000:.1f} mm",
        f"{result['worst_final_distance'] * 1000:.1f} mm",
    )
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    tyro.cli(ship)
