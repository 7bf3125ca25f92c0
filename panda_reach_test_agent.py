"""Play a saved agent, measure it, and record a GIF or an MP4.

python panda_reach_test_agent.py
python panda_reach_test_agent.py rl-trained-agents/PandaReach_PPO_v2_joints_dense.zip
python panda_reach_test_agent.py --record test_agent.gif --no-render
"""

import sys
from pathlib import Path

import gymnasium as gym
import rich.progress
import tyro

from panda_rl import agents, cli, evaluation
from panda_rl.recording import Recording
from panda_rl.window import WindowClosed, has_display


def test_agent(
    agent: tyro.conf.Positional[Path] = cli.AGENTS / "PandaReach_PPO_v2_ee_dense.zip",
    episodes: int | None = None,
    render: bool = has_display(),
    seed: int = evaluation.JUDGING_SEED,
    record: Path | None = None,
) -> None:
    """Play a saved agent on PandaReach-v2, and report how good it is.

    Args:
        agent: the agent's zip. Only numbers are read from it; nothing in it is run.
        episodes: number of episodes of 50 steps; by default 100; 10 in a window; 5 recorded.
        render: play in a window, in real time. The default if there is a display.
        seed: seed of the first goal; each later goal has the next seed.
        record: a .gif or .mp4 to record, at 25 frames/s. Drawing takes about 10 s an episode.
    """
    saved = agents.read(agent)
    recording = Recording(record) if record else None
    if episodes is None:
        episodes = 5 if record else 10 if render else 100
    env = gym.make(
        "PandaReach-v2",
        render_mode="human" if render else None,
        control_type=saved.config["control_type"],
    )
    policy = saved.policy(env)
    print(f"Playing {saved.path.name} for {episodes:,} episodes", flush=True)
    played: list[evaluation.Episode] = []

    def film(step: int, distance: float, reached: bool) -> None:
        if recording:
            caption = f"goal {len(played) + 1}   {distance * 1000:.0f} mm"
            recording.add(env.unwrapped.picture(), caption, reached)

    try:
        goals = range(seed, seed + episodes)
        for goal in rich.progress.track(goals, disable=not sys.stdout.isatty(), transient=True):
            played.append(evaluation.play(policy, env, goal, film))
    except (WindowClosed, KeyboardInterrupt):
        print(f"Stopped after {len(played):,} episodes.")
    if played:
        evaluation.print_table(saved.path.stem, seed, played)
    if recording and recording.frames:
        recording.save()
        print(f"Wrote {record} ({recording.path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(test_agent))
