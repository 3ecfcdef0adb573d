"""Exit statuses of the commands that run a process in a container."""

from __future__ import annotations

from rootless.client.http import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.errors import RootlessError

EXIT_CODES = """  0-255  the container's own status (128 + N when signal N ended it)
  125    the engine failed, or the command line is wrong
  126    the command cannot be executed
  127    the command was not found"""


def exit_status(error: RootlessError) -> int:
    """Docker's classes of failure to start: 127 not found, 126 not executable, else 125."""
    text = error.message
    if isinstance(error, ApiError):
        if "executable file not found" in text or "no such file or directory" in text.lower():
            return 127 if "start" in text or "exec" in text else 125
        if "permission denied" in text.lower() or "is a directory" in text.lower():
            return 126
    return 125
