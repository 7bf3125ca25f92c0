"""Judge the shipped agents, and write the table of rl-trained-agents/README.md.

python -m benchmarks.ship
"""

import json

import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks import shared
from panda_rl import agents, cli, evaluation
from panda_rl.recipes import PUSH_RECIPES, RECIPES

NAME = "PandaReach_PPO_v2_{}_{}.zip"
REACH_AGENTS = {variant: cli.AGENTS / NAME.format(*variant) for variant in RECIPES}
CUBE_AGENTS = {task: cli.AGENTS / f"Panda{task}_SAC_v2.zip" for task in PUSH_RECIPES}


def ship(episodes: int = 1000) -> None:
    """Write the table of the shipped agents, with what differs from their recipes.

    Args:
        episodes: number of goals for judging.
    """
    goals = range(evaluation.JUDGING_SEED, evaluation.JUDGING_SEED + episodes)
    rows = []
    configs = RECIPES | PUSH_RECIPES
    for kind, path in (REACH_AGENTS | CUBE_AGENTS).items():
        agent = agents.read(path)
        recipe = json.loads(json.dumps(configs[kind].saved()))  # lists, as in the file
        changed = {key: agent.config[key] for key in recipe if agent.config[key] != recipe[key]}
        options = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in changed.items())
        curves = EventAccumulator(str(cli.RUNS / path.stem)).Reload()
        seconds = agent.num_timesteps / curves.Scalars("time/fps")[-1].value
        env = agent.make_env()
        policy = agent.policy(env)
        played = [evaluation.play(policy, env, goal) for goal in goals]
        rows.append(f"`{path.name}` | `{options}` | {seconds:.0f} | {shared.judged(played)}")
    text = shared.table(f"agent | options | seconds | {shared.JUDGED}", rows)
    shared.insert("rl-trained-agents/README.md", "agents", text)


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(ship))
