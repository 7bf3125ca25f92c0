"""Run an exported agent: python robot_loop.py agent.onnx MAX_SPEED

In, 25 lines a second: the hand's position (m), its velocity (m/s) and the goal (m), nine
numbers in the world frame. Out, for each: how far to move, x y z (m) or joints 1 to 7 (rad).
MAX_SPEED is the hand's (m/s) or each joint's (rad/s). When this program ends, stop the arm.
"""

import json
import sys

import numpy as np
import onnxruntime

MARGIN = 0.05  # m: how far from the cube of the goals the hand may be

session = onnxruntime.InferenceSession(sys.argv[1])
contract = session.get_modelmeta().custom_metadata_map
low, high = (np.array(json.loads(contract[f"goal_{end}"]), np.float32) for end in ("low", "high"))
scale, rate = float(contract["action_scale"]), float(contract["rate_hz"])
longest = float(sys.argv[2]) / rate
if not longest > 0:
    sys.exit("refused: MAX_SPEED must be positive")
lowest, highest = low - [MARGIN, MARGIN, 0], high + MARGIN  # aim no lower than the table

for line in sys.stdin:
    numbers = np.array(line.split(), np.float32)
    hand, goal = numbers[:3], numbers[6:]
    if (goal < low).any() or (goal > high).any():
        sys.exit(f"refused: the goal {goal} is outside the cube from {low} to {high}")
    if (hand < low - MARGIN).any() or (hand > highest).any():
        sys.exit(f"stopped: the hand is at {hand}, outside its workspace")
    inputs = {"achieved_goal": hand, "desired_goal": goal, "observation": numbers[:6]}
    (action,) = session.run(["action"], {name: array[None] for name, array in inputs.items()})
    step = scale * action[0]
    if contract["control_type"] == "ee":
        step = np.clip(hand + step, lowest, highest) - hand
        length = float(np.linalg.norm(step))
    else:
        length = float(np.abs(step).max())
    step *= longest / max(longest, length)
    if not np.isfinite([*numbers, *step]).all():
        sys.exit("stopped: a number is not finite")
    print(*step, flush=True)
