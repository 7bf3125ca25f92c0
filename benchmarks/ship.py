"""Train the shipped agents, and write their results to rl-trained-agents/README.md.

python -m benchmarks.ship                        # only the table
python -m benchmarks.ship --train ee_dense ...   # train these agents again first
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import report
from panda_rl import agents, cli, evaluation, files

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# What differs from the recipe was chosen on the goals for choosing.
SHIPPED = {
    "PandaReach_PPO_v2_ee_dense": "--total-timesteps 102400 --effort-coef 0.0003 --ent-coef 0.006",
    "PandaReach_PPO_v2_joints_dense": "--total-timesteps 61440",
    "PandaReach_PPO_v2_ee_sparse": (
        "--total-timesteps 102400 --effort-coef 0.07 --ent-coef 0.1 --seed 1"
    ),
    "PandaReach_PPO_v2_joints_sparse": (
        "--total-timesteps 102400 --n-steps 256 --batch-size 256 "
        "--effort-coef 0.025 --ent-coef 0.05 --seed 1"
    ),
}


def ship(train: tuple[str, ...] = (), episodes: int = 1000) -> None:
    """Write the table of the shipped agents.

    Args:
        train: agents to train again first: ee_dense, joints_dense, ee_sparse, joints_sparse.
        episodes: number of goals for judging.
    """
    cli.check_range(1, 10**6, episodes=episodes)
    commands, rows = [], []
    for name, flags in SHIPPED.items():
        *_, control_type, reward_type = name.split("_")
        variant = f"--control-type {control_type} --reward-type {reward_type}"
        command = f"python panda_reach_train_agent.py {variant} {flags} --name {name}"
        agent = files.AGENTS / f"{name}.zip"
        if f"{control_type}_{reward_type}" in train:
            agent.unlink(missing_ok=True)
            shutil.rmtree(files.RUNS / name, ignore_errors=True)
            words = [sys.executable, *shlex.split(command)[1:]]
            subprocess.run(words, cwd=files.ROOT, check=True)
        commands.append(command)
        rows.append(row(agent, range(evaluation.JUDGING_SEED, evaluation.JUDGING_SEED + episodes)))
    columns = "agent, steps, seconds, success rate (95% interval), mean return: dense, sparse"
    columns += ", mean final distance, worst, mean effort"
    text = f"{report.table(columns.split(', '), rows)}\n\n```bash\n" + "\n".join(commands) + "\n```"
    report.insert(files.AGENTS / "README.md", "agents", text)
    print(text)


def row(agent: Path, goals: range) -> list[str]:
    saved = agents.read(agent)
    env = evaluation.make_env(saved.control_type)
    policy = saved.policy(env.observation_space, env.action_space)
    result = evaluation.summary(evaluation.evaluate(policy, env, goals))
    env.close()
    low, high = result["success_interval"]
    curves = EventAccumulator(str(files.RUNS / agent.stem)).Reload()
    return [
        f"`{agent.name}`",
        f"{saved.num_timesteps:,}",
        f"{saved.num_timesteps / curves.Scalars('time/fps')[-1].value:.0f}",
        f"{result['success_rate']:.1%} ({low:.1%} to {high:.1%})",
        f"{result['mean_dense_return']:.3f}",
        f"{result['mean_sparse_return']:.2f}",
        f"{result['mean_final_distance'] * 1000:.1f} mm",
        f"{result['worst_final_distance'] * 1000:.1f} mm",
        f"{result['mean_effort']:.3f}",
    ]


if __name__ == "__main__":
    cli.run(ship)
