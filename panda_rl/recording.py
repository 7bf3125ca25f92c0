"""Videos of episodes: GIF or MP4."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from panda_rl.cli import UsageError, replacing

FPS = 25  # real time


class Recording:
    """Collects pictures with captions and saves them as GIF (480x320) or MP4 (720x480)."""

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".gif", ".mp4") or not path.absolute().parent.is_dir():
            raise UsageError(f"{path} must end in .gif or .mp4, and be in a folder that exists")
        self.path = path
        self.size = (480, 320) if path.suffix == ".gif" else (720, 480)
        self.frames: list[Image.Image] = []

    def add(self, picture: np.ndarray, caption: str, reached: bool) -> None:
        """Add a frame with a one-line caption, green if the goal is reached."""
        frame = Image.fromarray(picture).resize(self.size, Image.Resampling.LANCZOS)
        width, height = self.size
        ImageDraw.Draw(frame).text(
            (0.54 * width, height // 24),  # the arm hardly ever gets to the upper right
            caption,
            fill=(80, 220, 100) if reached else (255, 255, 255),
            font=ImageFont.load_default(height // 18),
            stroke_width=2,  # in case the white arm is behind it
            stroke_fill=(44, 62, 80),
        )
        self.frames.append(frame)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        with replacing(self.path) as temporary:
            if self.path.suffix == ".mp4":
                frames = np.stack([np.asarray(frame) for frame in self.frames])
                imageio.imwrite(temporary, frames, fps=FPS, plugin="FFMPEG")
                imageio.immeta(temporary, plugin="FFMPEG")  # fails if the disk was full
                return
            # One palette for all frames keeps whatever stands still identical, and a GIF stores
            # only what has changed.
            palette = self.frames[0].quantize(method=Image.Quantize.MAXCOVERAGE)
            first, *rest = (
                frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames
            )
            first.save(temporary, save_all=True, append_images=rest, duration=1000 // FPS, loop=0)
