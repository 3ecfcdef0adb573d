"""Where the daemon's socket and the client's files are."""

from __future__ import annotations

from _stat import S_ISDIR

from rootless.client import lightos as os
from rootless.errors import InvalidInput, RootlessError


def home() -> str:
    """The user's home directory."""
    found = os.environ.get("HOME")
    if found:
        return found
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/"


def runtime_dir() -> str:
    """``$XDG_RUNTIME_DIR``, else /run/user/UID when it is ours, else /tmp/rootless-UID.

    The last one is made with mode 0700; a directory there that belongs to
    somebody else (anybody can make names in /tmp) or is open to others is refused.
    """
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given:
        if not given.startswith("/"):  # it would lead to another daemon in each directory
            raise InvalidInput(
                f"XDG_RUNTIME_DIR is not an absolute path: {given!r}",
                hint=f"set it to /run/user/{os.getuid()}, or unset it",
            )
        return given
    uid = os.getuid()
    usual = f"/run/user/{uid}"
    if _is_private(usual, uid):
        return usual
    fallback = f"/tmp/rootless-{uid}"
    try:
        os.mkdir(fallback, 0o700)
    except FileExistsError:
        if not _is_private(fallback, uid):
            raise RootlessError(
                f"{fallback} exists but is not a private directory of yours",
                hint="set XDG_RUNTIME_DIR to a directory of your own with mode 0700",
            ) from None
    return fallback


def _is_private(path: str, uid: int) -> bool:
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return S_ISDIR(info.st_mode) and info.st_uid == uid and not info.st_mode & 0o077


def default_socket() -> str:
    """The socket the user's own daemon listens on."""
    return f"{runtime_dir()}/rootless/rootless.sock"


def socket_of(host: str) -> str:
    """The path in ``unix:///path`` (or a bare absolute path)."""
    if host.startswith("unix://"):
        host = host[len("unix://") :]
    elif "://" in host:
        raise InvalidInput(
            f"cannot reach {host}: only unix://, tcp:// (with TLS) and ssh:// are supported",
            hint="write --host unix:///run/user/1000/rootless/rootless.sock",
        )
    if not host.startswith("/"):
        raise InvalidInput(f"not an absolute socket path: {host!r}")
    return host


def state_dir() -> str:
    """``$XDG_STATE_HOME/rootless``: logs."""
    base = os.environ.get("XDG_STATE_HOME") or f"{home()}/.local/state"
    return f"{base}/rootless"


def config_dir() -> str:
    """``$XDG_CONFIG_HOME``."""
    return os.environ.get("XDG_CONFIG_HOME") or f"{home()}/.config"
