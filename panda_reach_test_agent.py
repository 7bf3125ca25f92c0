"""Play a saved agent, measure it, and record a GIF or an MP4."""

from pathlib import Path
from typing import Annotated

from panda_rl import agents, cli, evaluation, files
from panda_rl.errors import UsageError, WindowClosed
from panda_rl.export import export_onnx
from panda_rl.recording import Recording
from panda_rl.window import wanted

import gymnasium as gym
import rich.progress
import tyro

Film = Annotated[Path | None, tyro.conf.arg(metavar="FILE.gif|FILE.mp4", help_behavior_hint="")]
Onnx = Annotated[Path | None, tyro.conf.arg(metavar="FILE.onnx", help_behavior_hint="")]


def test_agent(
    agent: tyro.conf.Positional[Path] = files.AGENTS / "PandaReach_PPO_v2_ee_dense.zip",
    episodes: cli.OptionalInt = None,
    render: cli.Flag = False,
    no_render: cli.Flag = False,
    seed: int = evaluation.JUDGING_SEED,
    record: Film = None,
    export: Onnx = None,
) -> None:
    """Play a saved agent on PandaReach-v2, and report how good it is.

    Args:
        agent: the agent's zip. Only data is read from it; nothing in it is run.
        episodes: number of episodes of 50 steps; by default 100; 10 in a window; 5 recorded.
        render: play in a window, in real time. The default if there is a display.
        no_render: play without a window, as fast as possible.
        seed: seed of the first goal; each later goal has the next seed.
        record: record a video at 25 frames/s. Drawing takes about 10 s an episode.
        export: write the policy as an ONNX file for a robot's computer instead of playing.
            See docs/ROBOT.md.

    Raises:
        UsageError: there is no such agent, a number is out of range, a file can't be written,
            or there is no display to render on.
    """
    cli.check_range(1, 10**9, episodes=episodes)
    cli.check_range(0, 2**32 - 1, seed=seed)
    recording = Recording(record) if record else None
    saved = agents.read(agent)
    control_type = saved.control_type
    if export:
        if episodes or render or record:
            raise UsageError("--export does not play: leave out --episodes, --render and --record")
        export_onnx(saved, export)
        print(f"Wrote {export} ({export.stat().st_size / 1e3:.0f} kB), the policy of {agent.name}.")
        return
    render = wanted(render, no_render)
    if episodes is None:
        episodes = 5 if record else 10 if render else len(evaluation.JUDGING_GOALS)

    env = evaluation.RecordEpisode(
        gym.make(
            "PandaReach-v2",
            render_mode="human" if render else None,
            control_type=control_type,
            reward_type="dense",
        )
    )
    policy = saved.policy(env.observation_space, env.action_space)
    cli.say(f"Playing {agent.name}. Only its weights were read; nothing in it was run.")
    played: list[evaluation.Episode] = []

    def film(_step: int) -> None:
        if recording:
            caption = f"goal {len(played) + 1}   {env.distance * 1000:.0f} mm"
            recording.add(env.get_wrapper_attr("picture")(), caption, env.reached)

    goals = range(seed, seed + episodes)
    console = rich.console.Console()
    try:
        for goal in rich.progress.track(
            goals, console=console, disable=not console.is_terminal, transient=True
        ):
            played.append(evaluation.play_episode(policy, env, goal, film))
    except (WindowClosed, KeyboardInterrupt):  # table and video show what was played
        print(f"Stopped after {len(played):,} of {episodes:,} episodes.")
    env.close()
    if played:
        evaluation.print_table(agent.stem, goals, played)
    if recording and recording.frames:
        recording.save()
        size = recording.path.stat().st_size / 1e6
        print(f"Wrote {record} ({size:.1f} MB), 25 frames a second.")


if __name__ == "__main__":
    cli.run(test_agent)
