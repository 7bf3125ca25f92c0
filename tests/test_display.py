"""A display that accepts a connection and never answers."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from panda_rl import window
from tests.conftest import assert_one_line, call_random, linux_only

import pytest

pytestmark = linux_only


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    folder = Path("/tmp/.X11-unix")
    folder.mkdir(exist_ok=True)
    number = 1000 + os.getpid()
    path = folder / f"X{number}"
    monkeypatch.setenv("DISPLAY", f":{number}")
    monkeypatch.setattr(window, "DISPLAY_SECONDS", 0.5)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.setblocking(False)
        yield server
    path.unlink()


def test_it_is_not_asked_where_no_window_is_wanted(mute: socket.socket) -> None:
    assert call_random("--help").returncode == 0
    assert call_random("--no-render", "--episodes", 1).returncode == 0
    with pytest.raises(BlockingIOError):
        mute.accept()


def test_a_window_on_it_is_refused_in_one_line(mute: socket.socket) -> None:
    assert_one_line(call_random("--render"), "no display answers")
    mute.accept()[0].close()  # it was asked


def test_without_a_flag_it_counts_as_no_display(mute: socket.socket) -> None:
    result = call_random("--episodes", 1)
    assert (result.returncode, result.stderr) == (0, "")
    assert "without a window (no display)" in result.stdout
