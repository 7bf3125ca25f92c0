"""A script's command line: made by tyro, errors in one line, exit codes as the shell knows them."""

import contextlib
import errno
import functools
import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

from panda_rl import interrupts
from panda_rl.errors import UsageError, WindowClosed, WorkerDied

import tyro

# Options that may be left out: --help shows what they take, without a None.
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalStr = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
Flag = tyro.conf.FlagCreatePairsOff[bool]  # --flag, and no --no-flag


def run(function: Callable[..., Any], parse: Callable[[list[str]], Any] | None = None) -> NoReturn:
    """Call ``function`` with the command line's arguments, and exit.

    Exit code 0, or 2 with one line on stderr for a user error, 1 with one line when a helper
    process died, 128 + the signal that stopped it. A bug keeps its traceback.

    Args:
        function: its signature makes the command line, and its docstring --help.
        parse: makes its only argument from the words typed, if they need more than that.
    """
    interrupts.end_script_on_signal()
    if sys.stdout is None:  # a program may run with it closed
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name can be any bytes
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
    words = sys.argv[1:]
    try:
        if parse:
            function(parse(words))
        else:
            # tyro calls what it has parsed for; that is to come after the parsing.
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
        if error.errno == errno.EPIPE:  # the reader of our output is gone: `| head -1`
            _silence_stdout()
        elif error.errno in (errno.ENOSPC, errno.EFBIG, errno.EROFS) or error.filename:
            _silence_stdout()
            _fail(2, f"cannot write {error.filename or 'any more'}: {error.strerror}")
        else:
            raise
    interrupts.ignore()  # it is done: Ctrl-C while Python exits changes nothing
    sys.exit(0)


def parse_words(kind: Any, words: Sequence[str], default: Any = None) -> Any:
    """What tyro makes of ``words``: an instance of a dataclass, or a function's result.

    Args:
        kind: the dataclass or the function.
        words: the command line, without the program's name.
        default: for what ``words`` leave out.

    Raises:
        UsageError: the words are wrong.
        SystemExit: they asked for --help, which is printed.
    """
    more: Any = {} if default is None else {"default": default}
    help_wanted = any(word in ("-h", "--help") for word in words)
    errors = io.StringIO()
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stderr(errors))
            if not help_wanted:  # as if there was no terminal: no colour, one width
                # UTF-8, or tyro draws its box with characters that belong to words, too.
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
    """tyro's error, which it prints as a box of several lines."""
    words = " ".join(re.sub(r"─+[^│]*|[│╭╮╰╯]", " ", box.split("╮", 1)[-1]).split())
    number = re.match(  # where one was expected, tyro speaks of Python's types
        r"Error parsing (--\S+): .*?(?:from \[|base 10: |to float: )(.*?)(?:\]\. Got| Arg)"
        r".* helptext: --\S+ (INT|FLOAT) ",
        words,
    )
    if number is None:
        return words
    flag, value, kind = number.groups()
    return f"{flag} is {value}, but must be a {'whole ' if kind == 'INT' else ''}number"


def say(line: str, file: Any = None) -> None:
    """Print a line at once. When nobody reads on, as after ``| head -1``, the work goes on."""
    try:
        print(line, file=file, flush=True)
    except BrokenPipeError:
        _silence_stdout()


def _silence_stdout() -> None:
    """What is left to print would fail once more when Python exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(code: int, message: str) -> NoReturn:
    line = " ".join(message.splitlines())  # a file's name may have several
    print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr)
    interrupts.ignore()
    sys.exit(code)


def check_range(low: float, high: float, **arguments: float | None) -> None:
    """Raises UsageError for an argument outside [``low``, ``high``]; None passes."""
    for name, value in arguments.items():
        if value is not None and not low <= value <= high:
            raise UsageError(
                f"--{name.replace('_', '-')} is {value}, but must be from {low:,g} to {high:,g}"
            )


def command(program: str, *words: str | Path) -> str:
    """A command to copy: ``program`` of this Python's, run from the current folder."""

    def short(path: Path) -> str:
        relative = os.path.relpath(path)
        return str(path) if relative.startswith("..") else relative

    here = Path(sys.executable).with_name(program)
    line = [program if shutil.which(program) == str(here) else here, *words]
    return shlex.join(short(word) if isinstance(word, Path) else word for word in line)
