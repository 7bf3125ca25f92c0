"""Play a saved agent, measure it, and record a GIF or an MP4.

python panda_reach_test_agent.py rl-trained-agents/PandaReach_PPO_v2_ee_dense.zip
python panda_reach_test_agent.py --record test_agent.gif --no-render
python panda_reach_test_agent.py --help
"""

import dataclasses
from pathlib import Path

import tyro
from tqdm import tqdm

from panda_rl import agents, cli, evaluation
from panda_rl.recording import Recording
from panda_rl.window import has_display


@dataclasses.dataclass
class Options:
    """Play a saved agent and report how good it is. Nothing in its file is run."""

    agent: tyro.conf.Positional[Path] = cli.AGENTS / "PandaReach_PPO_v2_ee_dense.zip"  # a saved zip
    episodes: int = 0  # 0 stands for 100, or 10 in a window, or 5 when recording
    render: bool = has_display()  # play in a window, in real time
    seed: int = evaluation.JUDGING_SEED  # of the first goal; each later goal has the next seed
    record: Path | None = None  # a .gif or .mp4 to write; drawing takes about 10 s an episode


def test_agent() -> None:
    options = tyro.cli(Options)
    agent = agents.read(options.agent)
    recording = Recording(options.record) if options.record else None
    episodes = options.episodes or (5 if recording else 10 if options.render else 100)
    goals = range(options.seed, options.seed + episodes)
    env = agent.make_env("human" if options.render else None)
    policy = agent.policy(env)
    print(f"Playing {agent.path.name} for {episodes:,} episodes", flush=True)
    played: list[evaluation.Episode] = []

    def film(step: int, distance: float, reached: bool) -> None:
        if recording:
            caption = f"goal {len(played) + 1}   {distance * 1000:.0f} mm"
            recording.add(env.get_wrapper_attr("picture")(), caption, reached)

    try:
        for goal in tqdm(goals, disable=None, leave=False):  # None: unless nobody is watching
            played.append(evaluation.play(policy, env, goal, film))
    except KeyboardInterrupt:  # Ctrl-C, or the window was closed
        print(f"Stopped after {len(played):,} of {episodes:,} episodes.")
    if played:
        evaluation.print_table(agent.path.stem, options.seed, played)
    if recording and recording.frames:
        recording.save()
        print(f"Wrote {recording.path} ({recording.path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    cli.run(test_agent)
