"""Videos of episodes: GIF or MP4."""

from pathlib import Path
from typing import Any

from panda_rl import files
from panda_rl.errors import UsageError

import imageio.v2 as imageio
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

FPS = 25  # real time


class Recording:
    """Collects pictures with captions and saves them as GIF (480x320) or MP4 (720x480).

    Raises:
        UsageError: ``path`` ends in neither ``.gif`` nor ``.mp4``, or can't be written.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".gif", ".mp4"):
            raise UsageError(f"{path} must end in .gif or .mp4")
        files.check_writable(path)
        self.path = path
        self._size = (480, 320) if path.suffix == ".gif" else (720, 480)
        self._font = PIL.ImageFont.load_default(self._size[1] // 18)
        self.frames: list[PIL.Image.Image] = []

    def add(self, picture: np.ndarray, caption: str, reached: bool) -> None:
        """Add a frame. The caption is green if the goal is reached."""
        frame = PIL.Image.fromarray(picture).resize(self._size, PIL.Image.Resampling.LANCZOS)
        margin = self._size[1] // 24
        PIL.ImageDraw.Draw(frame).text(
            (margin, margin),
            caption,
            fill=(80, 220, 100) if reached else (255, 255, 255),
            font=self._font,
            stroke_width=2,  # the white arm may be behind it
            stroke_fill=(44, 62, 80),
        )
        self.frames.append(frame)

    def save(self) -> None:
        """Write the file, whole or not at all. Raises UsageError if it can't be written."""
        with files.replacing(self.path) as temporary:
            save = _save_gif if self.path.suffix == ".gif" else _save_mp4
            save(temporary, self.frames)


def _save_gif(path: Path, frames: list[PIL.Image.Image]) -> None:
    # One palette for all frames keeps whatever stands still identical, and a GIF stores only
    # what has changed.
    palette = frames[0].quantize(method=PIL.Image.Quantize.MAXCOVERAGE)
    first, *rest = (
        frame.quantize(palette=palette, dither=PIL.Image.Dither.NONE) for frame in frames
    )
    first.save(path, save_all=True, append_images=rest, duration=1000 // FPS, loop=0)


def _save_mp4(path: Path, frames: list[PIL.Image.Image]) -> None:
    settings: dict[str, Any] = {"fps": FPS, "ffmpeg_log_level": "quiet"}
    video: Any = imageio.get_writer(path, **settings)
    with video:
        for frame in frames:
            video.append_data(np.asarray(frame))
    # ffmpeg does not report a full disk to imageio. A truncated video won't open.
    imageio.get_reader(path).close()
