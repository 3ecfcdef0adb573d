"""Exit statuses of the commands that run a process in a container."""

from __future__ import annotations

from rootless.client.http import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.errors import RootlessError

_EXECVE = 'unable to start container process: exec: "'
EXIT_CODES = """  0-255  the container's own status (128 + N when signal N ended it)
  125    wrong flags, or it failed before the process was to be executed
  126    the command cannot be executed
  127    the command was not found
  1      wrong number of arguments"""


def exit_status(error: RootlessError) -> int:
    """Docker's classes of failure to start: 127 not found, 126 not executable, else 125.

    Only what execve(2) says is about the command: a mount may be denied as well.
    """
    if not isinstance(error, ApiError) or _EXECVE not in error.message:
        return 125
    missing = ("executable file not found", "no such file or directory")
    return 127 if any(words in error.message for words in missing) else 126
