"""``rootless cp``: files in and out of a container as tar archives.

Out of a container its archive is untrusted: it is unpacked by descriptors below
the destination (``rootless.cli.untar``), so neither names nor links in it, nor
somebody who swaps a directory for a link meanwhile, lead out of the destination
(CVE-2018-15664 and CVE-2019-14271 are this command's history). Into a container
the paths are resolved by the engine, inside its root.
"""

from __future__ import annotations

import os
import stat
import sys

from rootless.cli.command import BOOL, Command, Invocation
from rootless.cli.flags import UsageError
from rootless.client import jsonlite
from rootless.client.api import Client, query, quote
from rootless.client.http import ApiError, read_file
from rootless.client.stream import OutputClosed, write_all
from rootless.errors import InvalidInput, NotFound, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_GO_DIR = 1 << 31
_GO_LINK = 1 << 27
"""Bits of Go's os.FileMode in the path's stat header."""


def split_operand(text: str) -> tuple[str, str]:
    """``CONTAINER:PATH`` as both parts; a local path has no container.

    As in Docker, a path that is absolute or begins with a dot is local even with
    a colon inside.
    """
    if text.startswith(("/", ".")) or ":" not in text:
        return "", text
    container, _, path = text.partition(":")
    return container, path or "/"


def run(call: Invocation) -> int:
    """Copy, in the direction that the operands say."""
    source, target = call.args
    from_container, from_path = split_operand(source)
    to_container, to_path = split_operand(target)
    if from_container and to_container:
        raise UsageError("copying between containers is not supported", status=1)
    if not from_container and not to_container:
        raise UsageError("must specify at least one container source", status=1)
    if from_container:
        return _out(call, from_container, from_path, to_path)
    return _into(call, from_path, to_container, to_path)


def _stat(client: Client, container: str, path: str) -> dict[str, Any]:
    """The path's stat in the container (name, mode, linkTarget)."""
    from base64 import b64decode

    target = f"/containers/{quote(container)}/archive" + query(path=path)
    response = client.open_head(target)
    value = jsonlite.loads(b64decode(response.headers.get("x-docker-container-path-stat", "")))
    if not isinstance(value, dict):
        raise InvalidInput("the daemon sent a malformed path stat")
    return value


def _resolve_link(client: Client, container: str, path: str) -> str:
    """For -L: the path that a link in the container points to."""
    found = _stat(client, container, path)
    link = found.get("linkTarget")
    if not link or not int(found.get("mode", 0)) & _GO_LINK:
        return path
    link = str(link)
    return link if link.startswith("/") else os.path.join(os.path.dirname(path), link)


def _out(call: Invocation, container: str, path: str, target: str) -> int:
    if call["follow-link"]:
        path = _resolve_link(call.client, container, path)
    path = _cleaned(path)
    if target == "-" and os.isatty(1):
        raise UsageError("refusing to write an archive to a terminal", status=1)
    response = call.client.open("GET", f"/containers/{quote(container)}/archive" + query(path=path))
    if target == "-":
        try:
            for piece in response.chunks():
                write_all(1, [memoryview(piece)])
        except OutputClosed:
            raise BrokenPipeError from None
        return 0
    from rootless.cli.untar import Placement, extract

    placement = place(target)
    extract(
        response.chunks(),
        Placement(
            placement[0], placement[1], contents=_contents_only(path), asked=_asked_name(path)
        ),
        owners=call["archive"],
    )
    if not call["quiet"] and sys.stderr.isatty():
        sys.stderr.write(f"Successfully copied to {target}\n")
    return 0


def _contents_only(path: str) -> bool:
    """``DIR/.`` copies what is in the directory, not the directory."""
    return path.endswith("/.") or path == "."


def _cleaned(path: str) -> str:
    """``path`` without ``..``, as the engine takes it; what the root holds, for the root."""
    if ".." in path.split("/"):
        end = "/." if path.endswith("/.") else "/" if path.endswith("/") else ""
        path = os.path.normpath("/" + path.lstrip("/")).rstrip("/") + end
    return path if path.strip("/") else "/."


def _asked_name(path: str) -> str:
    """What an archive of ``path`` calls its top; '' where that is not in the path."""
    name = os.path.basename(path.rstrip("/"))
    return "" if name in (".", "..") else name


def place(target: str) -> tuple[str, str]:
    """(existing directory, name in it) for a copy to the local path ``target``.

    Docker's rules: an existing directory receives the source under its own name;
    otherwise the last part of the path is the new name, whose parent must exist.
    """
    if os.path.isdir(target):
        return target, ""
    if target.endswith("/"):
        raise NotFound(f"no such directory: {target}")
    parent, name = os.path.split(os.path.abspath(target))
    if not os.path.isdir(parent):
        raise NotFound(f"no such directory: {parent}")
    return parent, name


def _into(call: Invocation, path: str, container: str, target: str) -> int:
    client = call.client
    if path == "-":
        if os.isatty(0):
            raise UsageError("the source is a terminal, not an archive", status=1)
        _put(call, container, target, read_file(0))
        return 0
    follow = call["follow-link"] or path.endswith("/.")
    try:
        info = os.stat(path) if follow else os.lstat(path)
    except OSError as error:
        raise RootlessError(f"cannot copy {path}: {error.strerror}") from None
    from rootless.cli.totar import archive

    directory, name = _destination(client, container, target)
    if stat.S_ISDIR(info.st_mode) and directory is None:
        raise InvalidInput(f"cannot copy a directory to the file {target}")
    if _contents_only(path):
        name = name or "."
    elif not name:
        name = os.path.basename(os.path.normpath(os.path.abspath(path)))
    chunks = archive(path, name, follow=follow, owners=call["archive"])
    _put(call, container, directory or os.path.dirname(target) or "/", chunks)
    if not call["quiet"] and sys.stderr.isatty():
        sys.stderr.write(f"Successfully copied to {container}:{target}\n")
    return 0


def _destination(client: Client, container: str, target: str) -> tuple[str | None, str]:
    """(directory in the container, new name there or '' for the source's own)."""
    try:
        found = _stat(client, container, target)
    except ApiError as error:
        if error.status != 404 or "No such container" in error.message:
            raise
        if target.endswith("/"):
            raise NotFound(f"no such directory in the container: {target}") from None
        parent, name = os.path.split(target)
        return parent or "/", name
    mode = int(found.get("mode", 0))
    if mode & _GO_LINK and found.get("linkTarget"):
        link = str(found["linkTarget"])
        target = link if link.startswith("/") else os.path.join(os.path.dirname(target), link)
        return _destination(client, container, target) if not mode & _GO_DIR else (target, "")
    if mode & _GO_DIR:
        return target, ""
    if target.endswith("/"):
        raise InvalidInput(f"not a directory in the container: {target}")
    return None, os.path.basename(target)


def _put(call: Invocation, container: str, directory: str, chunks: Any) -> None:
    target = f"/containers/{quote(container)}/archive" + query(
        path=directory,
        noOverwriteDirNonDir="true",
        copyUIDGID="true" if call["archive"] else None,
    )
    call.client.request(
        "PUT", target, headers=(("Content-Type", "application/x-tar"),), upload=chunks
    )


COMMAND = Command(
    run,
    usage="cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n"
    "cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    summary="Copy files/folders between a container and the local filesystem",
    description="""
Use '-' as the source to read a tar archive from stdin and extract it to a
directory in a container. Use '-' as the destination to stream a tar archive of
a container source to stdout. SRC_PATH/. copies what is in the directory.
Devices, and set-user-id bits, are not created on the local side.
""",
    aliases="container cp, cp",
    flags=(
        ("archive", "a", BOOL, False, "Archive mode (copy all uid/gid information)"),
        ("follow-link", "L", BOOL, False, "Always follow symbol link in SRC_PATH"),
        ("quiet", "q", BOOL, False, "Suppress progress output during copy"),
    ),
    min_args=2,
    max_args=2,
    examples="rootless cp web:/etc/hosts .\nrootless cp site/. web:/srv/www",
)
