"""Videos of episodes: GIF or MP4."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from panda_rl.cli import UsageError, replacing

FPS = 25  # real time


class Recording:
    """Collects pictures with captions and saves them as GIF (480x320) or MP4 (720x480).

    Raises:
        UsageError: ``path`` ends in neither ``.gif`` nor ``.mp4``, or its folder is missing.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".gif", ".mp4"):
            raise UsageError(f"{path} must end in .gif or .mp4")
        if not path.absolute().parent.is_dir():
            raise UsageError(f"there is no folder {path.parent}")
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
        """Write the file, whole or not at all."""
        with replacing(self.path) as temporary:
            if self.path.suffix == ".mp4":
                imageio.imwrite(temporary, np.stack(self.frames), fps=FPS, plugin="FFMPEG")
                return
            # One palette for all frames keeps whatever stands still identical, and a GIF stores
            # only what has changed.
            palette = self.frames[0].quantize(method=PIL.Image.Quantize.MAXCOVERAGE)
            first, *rest = (
                frame.quantize(palette=palette, dither=PIL.Image.Dither.NONE)
                for frame in self.frames
            )
            first.save(temporary, save_all=True, append_images=rest, duration=1000 // FPS, loop=0)
