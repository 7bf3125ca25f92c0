"""Errors that are not bugs. The scripts report each in one line."""


class UsageError(ValueError):
    """A user error: the message says what is wrong and what to do."""


class DisplayError(UsageError):
    """A window was requested, but no display answers."""


class WindowClosed(RuntimeError):
    """The window was closed during an episode."""


class WorkerDied(RuntimeError):
    """A process that simulates environments died or stopped answering."""
