"""export, save, load, import: tar archives in and out."""

from __future__ import annotations

import os
import sys

from rootless.cli.command import BOOL, LIST, STRING, Command, Invocation
from rootless.cli.flags import UsageError
from rootless.cli.progress import Progress
from rootless.cli.pulling import split_target
from rootless.client.api import query, quote
from rootless.client.http import Response, read_file
from rootless.client.stream import OutputClosed, write_all
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def save_body(response: Response, path: str, *, what: str) -> None:
    """The body into a file (whole or not at all) or to standard output."""
    if path:
        _save_file(response, path)
        return
    if os.isatty(1):
        raise UsageError(
            f"refusing to write {what} to a terminal", hint="use -o FILE or redirect", status=1
        )
    try:
        for piece in response.chunks():
            write_all(1, [memoryview(piece)])
    except OutputClosed:
        raise BrokenPipeError from None


def _save_file(response: Response, path: str) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    special = os.path.exists(path) and not os.path.isfile(path)
    name = path if special else temporary
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (0 if special else os.O_EXCL)
    fd = os.open(name, flags, 0o600)
    try:
        for piece in response.chunks():
            write_all(fd, [memoryview(piece)])
        if not special:
            os.fsync(fd)
            os.rename(temporary, path)
    except BaseException:
        if not special:
            os.unlink(temporary)
        raise
    finally:
        os.close(fd)


def check_output(path: str) -> None:
    """Fail before the daemon works for nothing."""
    directory = os.path.dirname(path) or "."
    if path and not os.path.isdir(directory):
        raise RootlessError(f"invalid output path: directory {directory!r} does not exist")
    if path and os.path.isdir(path):
        raise RootlessError(f"invalid output path: {path!r} is a directory")


def _export(call: Invocation) -> int:
    check_output(call["output"])
    if not call["output"] and os.isatty(1):
        raise UsageError(
            "refusing to write an archive to a terminal", hint="use -o FILE or redirect", status=1
        )
    response = call.client.open("GET", f"/containers/{quote(call.args[0])}/export")
    save_body(response, call["output"], what="an archive")
    return 0


def _save(call: Invocation) -> int:
    check_output(call["output"])
    if not call["output"] and os.isatty(1):
        raise UsageError(
            "refusing to write an archive to a terminal", hint="use -o FILE or redirect", status=1
        )
    target = "/images/get" + query(names=call.args, platform=platform_json(call["platform"]))
    save_body(call.client.open("GET", target), call["output"], what="an archive")
    return 0


def platform_json(text: str) -> dict[str, str] | None:
    """``linux/arm64/v8``, or an architecture of Linux, as the API's platform object."""
    if not text:
        return None
    parts = text.split("/") if "/" in text else ["linux", text]
    if len(parts) > 3 or not all(parts):
        raise UsageError(f"invalid platform {text!r}", hint="write os/architecture[/variant]")
    return dict(zip(("os", "architecture", "variant"), parts, strict=False))


def _read(path: str) -> Iterator[bytes]:
    fd = 0 if path in ("", "-") else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield from read_file(fd)
    finally:
        if fd:
            os.close(fd)


def _check_input(path: str, flag: str) -> None:
    if path in ("", "-"):
        if os.isatty(0):
            raise UsageError(f"requested load from stdin, but stdin is empty: use {flag}", status=1)
        return
    if os.path.isdir(path):
        raise RootlessError(f"{path} is a directory, not an archive")
    with open(path, "rb"):
        return


_TAR = (("Content-Type", "application/x-tar"),)


def _load(call: Invocation) -> int:
    _check_input(call["input"], "--input FILE, or redirect one")
    target = "/images/load" + query(
        quiet=call["quiet"] or not sys.stdout.isatty() or None,
        platform=platform_json(call["platform"]),
    )
    response = call.client.open("POST", target, headers=_TAR, upload=_read(call["input"]))
    Progress(sys.stdout).show(response.documents())
    return 0


def _import(call: Invocation) -> int:
    source = call.args[0]
    reference = call.args[1] if len(call.args) > 1 else ""
    name, tag = split_target(reference)
    remote = source.startswith(("http://", "https://"))
    target = "/images/create" + query(
        fromSrc=source if remote else "-",
        repo=name or None,
        tag=tag or None,
        message=call["message"] or None,
        changes=call["change"] or None,
        platform=call["platform"] or None,
    )
    if remote:
        response = call.client.open("POST", target)
    else:
        _check_input(source, "a FILE, or redirect one")
        response = call.client.open("POST", target, headers=_TAR, upload=_read(source))
    Progress(sys.stdout).show(response.documents())
    return 0


_PLATFORM = ("platform", "", STRING, "", "Only the given platform variant (os/arch[/variant])")

EXPORT = Command(
    _export,
    usage="export [OPTIONS] CONTAINER",
    summary="Export a container's filesystem as a tar archive",
    description="Owners in the archive are those that the container sees.",
    aliases="container export, export",
    flags=(("output", "o", STRING, "", "Write to a file, instead of STDOUT"),),
    min_args=1,
    max_args=1,
    examples="rootless export web | tar t\nrootless export -o web.tar web",
)
SAVE = Command(
    _save,
    usage="save [OPTIONS] IMAGE [IMAGE...]",
    summary="Save one or more images to a tar archive (streamed to STDOUT by default)",
    description="""
The archive is an OCI layout that `docker load` reads as well; `rootless load` reads it
back. A file appears under its name when it is whole.
""",
    aliases="image save, save",
    flags=(("output", "o", STRING, "", "Write to a file, instead of STDOUT"), _PLATFORM),
    min_args=1,
    max_args=None,
    examples="rootless save -o images.tar debian:bookworm busybox",
)
LOAD = Command(
    _load,
    usage="load [OPTIONS]",
    summary="Load an image from a tar archive or STDIN",
    description="""
Reads what `rootless save`, `docker save` and `podman save` write (docker-archive and
oci-archive), plain or compressed. All images are loaded or none. For a root file
system use `rootless import`.
""",
    aliases="image load, load",
    flags=(
        ("input", "i", STRING, "", "Read from tar archive file, instead of STDIN"),
        _PLATFORM,
        ("quiet", "q", BOOL, False, "Suppress the load output"),
    ),
    examples="rootless load -i images.tar\ncurl -s https://example.org/app.tar | rootless load",
)
IMPORT = Command(
    _import,
    usage="import [OPTIONS] FILE|- [REPOSITORY[:TAG]]",
    summary="Import the contents from a tarball to create a filesystem image",
    description="""
The archive is a root file system (tar, also compressed) from a file or, with '-',
from STDIN; it becomes an image of one layer. The daemon fetches no URLs. Instructions
of --change are those of `rootless commit`.
""",
    aliases="image import, import",
    flags=(
        ("change", "c", LIST, None, "Apply a Dockerfile instruction to the image ('ENV A=b')"),
        ("message", "m", STRING, "", "Set commit message for imported image"),
        ("platform", "", STRING, "", "Platform of the image (default this machine's)"),
    ),
    min_args=1,
    max_args=2,
    examples="rootless import rootfs.tar debian:mine\ntar c . | rootless import - app:1",
)
