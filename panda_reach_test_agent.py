"""Play a saved agent: in a window, in a table, in a GIF or an MP4."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import imageio.v2 as imageio
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import rich.console
import rich.progress
import tyro

import panda_reach_utils as utils
from panda_reach_env import WindowClosed, has_display

Film = Annotated[Path | None, tyro.conf.arg(metavar="FILE.gif|FILE.mp4", help_behavior_hint="")]


def test_agent(
    model: tyro.conf.Positional[Path] = utils.AGENTS / "PandaReach_PPO_v2_ee_dense.zip",
    episodes: utils.OptionalInt = None,
    render: bool = has_display(),
    seed: int = utils.HELD_OUT_SEED,
    record: Film = None,
) -> None:
    """Play a saved agent on PandaReach-v2 and say how good it is.

    Args:
        model: the agent's zip; numbers are read from it, and nothing in it is run.
        episodes: of 50 steps; 100 if not given, 10 in a window, 5 in a recording.
        render: play in a window, in real time. The default: where there is a display.
        seed: of the goals; the same ones for the same seed.
        record: write what is played, 25 frames a second; drawing an episode takes 10 s.

    Raises:
        UsageError: no such agent; a number out of range; a file that can't be written.
        DisplayError: ``render`` without a display.
    """
    utils.check_range(1, 10**9, episodes=episodes)
    utils.check_range(0, 2**32 - 1, seed=seed)
    if episodes is None:
        episodes = 5 if record else 10 if render else 100
    recording = Recording(record) if record else None
    policy, env = utils.load_agent(model, render_mode="human" if render else None)
    print(f"Playing {model.name}: its weights only; nothing in it was run.")
    played: list[utils.Episode] = []

    def on_step(_step: int, distance: float, reached: bool) -> None:
        if recording:
            caption = f"goal {len(played) + 1}   {distance * 1000:.0f} mm"
            recording.add(env.get_wrapper_attr("picture")(), caption, reached)

    console = rich.console.Console()
    bar = rich.progress.track(
        range(episodes), console=console, disable=not console.is_terminal, transient=True
    )
    try:
        for i in bar:
            played.append(utils.play_episode(policy, env, seed if i == 0 else None, on_step))
    except (WindowClosed, KeyboardInterrupt):  # table and recording are of what was played
        print(f"Stopped after {len(played):,} of {episodes:,} episodes.")
    env.close()
    if played:
        utils.print_table(model.stem, played)
    if recording and recording.frames:
        recording.save()
        size = recording.path.stat().st_size / 1e6
        print(f"Wrote {record} ({size:.1f} MB), 25 frames a second.")


class Recording:
    """Pictures with a caption, to be saved as GIF (480x320) or MP4 (720x480).

    Raises:
        UsageError: neither ``.gif`` nor ``.mp4``, or no access to its folder.
    """

    FPS = 25

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".gif", ".mp4"):
            raise utils.UsageError(f"--record {path} must end in .gif or .mp4")
        self.path = path
        self._temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
        with self._writing():  # tried before minutes of drawing, not after
            self._temporary.touch()
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "Is a directory")
        self._size = (480, 320) if path.suffix == ".gif" else (720, 480)
        self._font = PIL.ImageFont.load_default(self._size[1] // 18)
        self.frames: list[PIL.Image.Image] = []

    def add(self, picture: np.ndarray, caption: str, reached: bool) -> None:
        """One frame; the caption is green once the goal is reached."""
        frame = PIL.Image.fromarray(picture).resize(self._size, PIL.Image.Resampling.LANCZOS)
        margin = self._size[1] // 24
        PIL.ImageDraw.Draw(frame).text(
            (margin, margin),
            caption,
            fill=(80, 220, 100) if reached else (255, 255, 255),
            font=self._font,
            stroke_width=2,  # the arm's white may be behind it
            stroke_fill=(44, 62, 80),
        )
        self.frames.append(frame)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        with self._writing():
            if self.path.suffix == ".gif":
                # One palette for all frames: what stands still stays the same to the bit,
                # and a GIF only stores what moved.
                palette = self.frames[0].quantize(method=PIL.Image.Quantize.MAXCOVERAGE)
                frames = [
                    frame.quantize(palette=palette, dither=PIL.Image.Dither.NONE)
                    for frame in self.frames
                ]
                frames[0].save(
                    self._temporary,
                    save_all=True,
                    append_images=frames[1:],
                    duration=1000 // self.FPS,
                    loop=0,
                )
            else:
                settings: dict[str, Any] = {"fps": self.FPS, "ffmpeg_log_level": "quiet"}
                video: Any = imageio.get_writer(self._temporary, **settings)
                with video:
                    for frame in self.frames:
                        video.append_data(np.asarray(frame))
                # ffmpeg doesn't tell imageio of a full disk; half a film can't be opened.
                imageio.get_reader(self._temporary).close()
            self._temporary.replace(self.path)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or "is the disk full?"  # ffmpeg's are pages long
            raise utils.UsageError(f"cannot write {self.path}: {reason}") from None
        finally:
            with contextlib.suppress(OSError):
                self._temporary.unlink()


if __name__ == "__main__":
    utils.cli(test_agent)
