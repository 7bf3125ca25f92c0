"""A script's command line: parsed by tyro, with one-line errors and the usual exit codes."""

import contextlib
import errno
import functools
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

from panda_rl import interrupts
from panda_rl.errors import UsageError, WindowClosed, WorkerDied

import tyro

# Options that may be left out. --help shows INT rather than {None}|INT.
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalStr = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
Flag = tyro.conf.FlagCreatePairsOff[bool]  # --flag, and no --no-flag

NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
"""What an OSError says when a disk is full or may not be written."""


def run(function: Callable[..., Any], parse: Callable[[list[str]], Any] | None = None) -> NoReturn:
    """Call ``function`` with the command line's arguments, and exit.

    The exit code is 0; 2 after a user error, with one line on stderr; 1 after a simulation
    process died, with one line; or 128 plus the signal that stopped it. A bug keeps its traceback.

    Args:
        function: its signature defines the command line, and its docstring --help.
        parse: turns the words typed into the only argument of ``function``; by default they
            are parsed by its signature.
    """
    interrupts.end_script_on_signal()
    if sys.stdout is None:  # it was closed before the program started
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name can be any bytes
    words = sys.argv[1:]
    try:
        if parse:
            function(parse(words))
        else:
            # Only parse: if tyro ran the function, its errors would look like wrong words.
            function(**parse_words(functools.wraps(function)(lambda **given: given), words))
        sys.stdout.flush()
    except UsageError as error:
        _fail(2, str(error))
    except WorkerDied as error:
        _fail(1, str(error))
    except interrupts.Stopped as stop:
        say(str(stop), file=sys.stderr)
        sys.exit(128 + stop.signum)
    except WindowClosed:
        pass
    except OSError as error:
        if error.errno == errno.EPIPE:  # nobody reads our output any more: `| head -1`
            _silence_stdout()
        elif error.errno in NOT_WRITABLE:
            _silence_stdout()
            _fail(2, f"cannot write {error.filename or 'any more'}: {error.strerror}")
        else:
            raise
    interrupts.ignore()  # the work is done: ignore a Ctrl-C while Python exits
    sys.exit(128 + signal.SIGTERM if signal.SIGTERM in interrupts.received else 0)


def parse_words(kind: Any, words: Sequence[str], default: Any = None) -> Any:
    """Parse ``words`` with tyro: returns an instance of a dataclass, or a function's result.

    Args:
        kind: the dataclass or the function.
        words: the command line, without the program's name.
        default: an instance with the values that ``words`` leave out.

    Raises:
        UsageError: the words are wrong.
        SystemExit: after --help has been printed.
    """
    more: Any = {} if default is None else {"default": default}
    help_wanted = any(word in ("-h", "--help") for word in words)
    errors = io.StringIO()
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stderr(errors))
            if not help_wanted:  # as if there were no terminal: no colour, one width
                # UTF-8, or tyro draws its box with characters that also occur in words.
                stdout = io.TextIOWrapper(io.BytesIO(), "utf-8")
                stack.enter_context(contextlib.redirect_stdout(stdout))
                stack.enter_context(_columns(80))
            return tyro.cli(kind, args=words, prog=Path(sys.argv[0]).name, **more)
    except SystemExit as stop:
        if not stop.code:
            sys.stdout.flush()
            raise
        raise UsageError(_in_one_line(errors.getvalue())) from None


@contextlib.contextmanager
def _columns(width: int) -> Any:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(width)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before


def _in_one_line(box: str) -> str:
    """tyro's error message, which it prints as a box of several lines."""
    words = " ".join(re.sub(r"─+[^│]*|[│╭╮╰╯]", " ", box).split())
    # tyro explains a wrong number in terms of Python's types, such as "Error parsing --gamma:
    # could not convert string to float: 0,9 Argument helptext: --gamma FLOAT ...".
    number = re.match(
        r"Error parsing (--\S+): .*?(?:from \[|base 10: |to float: )(.*?)(?:\]\. Got| Arg)"
        r".* helptext: --\S+ (INT|FLOAT) ",
        words,
    )
    if number is None:
        return words
    flag, value, kind = number.groups()
    return f"{flag} is {value}, but must be a {'whole ' if kind == 'INT' else ''}number"


def say(line: str, file: Any = None) -> None:
    """Print a line at once. If nobody reads it, as after ``| head -1``, the work continues."""
    try:
        print(line, file=file, flush=True)
    except BrokenPipeError:
        _silence_stdout()


def _silence_stdout() -> None:
    """Keep Python from failing again at exit, when it flushes what is left to print."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(code: int, message: str) -> NoReturn:
    # A file name may contain newlines, or codes that the terminal would act on.
    line = " ".join(message.splitlines())
    line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr)
    interrupts.ignore()
    sys.exit(code)


def check_range(low: float, high: float, **arguments: float | None) -> None:
    """Raises UsageError for an argument outside [``low``, ``high``]; None passes."""

    def text(number: float) -> str:
        return f"{number:,}" if isinstance(number, int) else repr(number)

    for name, value in arguments.items():
        if value is not None and not low <= value <= high:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is {value}, but must be from {text(low)} to {text(high)}")


def command(program: str, *words: str | Path) -> str:
    """A command to copy and paste: this Python's ``program``, run from the current folder."""

    def short(path: Path) -> str:
        relative = os.path.relpath(path)
        return str(path) if relative.startswith("..") else relative

    here = Path(sys.executable).with_name(program)
    line = [program if shutil.which(program) == str(here) else here, *words]
    join = subprocess.list2cmdline if sys.platform == "win32" else shlex.join
    return join([short(word) if isinstance(word, Path) else word for word in line])
