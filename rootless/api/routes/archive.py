"""Files in and out of containers, and commit."""

from __future__ import annotations

import base64
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp.web_response import Response, StreamResponse

from rootless.api.call import Call, json_bytes
from rootless.api.dto.config import Config, to_config
from rootless.api.dto.times import rfc3339
from rootless.api.fields import limited, query
from rootless.api.router import Route
from rootless.api.streams import Closing, open_stream, send_body
from rootless.errors import InvalidInput, NotFound
from rootless.model.records import PathStat

# Go's os.FileMode puts the file type and the special bits elsewhere than st_mode
# does (its documentation names the bits; the values are part of Docker's API).
_GO_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_SPECIAL = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def go_mode(mode: int) -> int:
    """A st_mode as Go's os.FileMode."""
    special = sum(go for bit, go in _GO_SPECIAL if mode & bit)
    return mode & 0o777 | _GO_TYPES.get(stat.S_IFMT(mode), 0) | special


def stat_header(found: PathStat) -> str:
    """The value of X-Docker-Container-Path-Stat."""
    body = {
        "name": found.name,
        "size": found.size,
        "mode": go_mode(found.mode),
        "mtime": rfc3339(found.mtime_ns),
        "linkTarget": found.link_target,
    }
    return base64.b64encode(json_bytes(body)).decode("ascii")


def _path(call: Call) -> str:
    path = call.text("path")
    if not path:
        raise InvalidInput("missing path parameter: 'path'")
    if ".." not in path.split("/"):
        return path
    # As Docker: by the words, before any link is looked at. The archive's top is called
    # as the path ends, and one called '..' would lead its reader out.
    end = path.endswith("/.") * "/." or path.endswith("/") * "/"
    return posixpath.normpath("/" + path.lstrip("/")).rstrip("/") + end or "/"


@contextmanager
def _naming(ref: str) -> Iterator[None]:
    """A file that is missing is told with the container's name as the client wrote it."""
    try:
        yield
    except NotFound as error:
        message = error.message.replace("in the container", f"in container {ref}")
        raise NotFound(message, hint=error.hint) from error


async def head(call: Call) -> Response:
    """``HEAD /containers/{ref}/archive``."""
    ref = call.fields["ref"]
    with _naming(ref):
        found = await call.engine.containers.archive_stat(call.identity, ref, _path(call))
    return Response(headers={"X-Docker-Container-Path-Stat": stat_header(found)})


async def get(call: Call) -> StreamResponse:
    """``GET /containers/{ref}/archive``."""
    ref = call.fields["ref"]
    with _naming(ref):
        found, source = await call.engine.containers.archive_get(call.identity, ref, _path(call))
    header = {"X-Docker-Container-Path-Stat": stat_header(found)}
    async with Closing(source) as body:
        response = await open_stream(call, "application/x-tar", **header)
        await send_body(response, body)
    return response


async def put(call: Call) -> Response:
    """``PUT /containers/{ref}/archive``."""
    ref = call.fields["ref"]
    with _naming(ref):
        await call.engine.containers.archive_put(
            call.identity,
            ref,
            _path(call),
            call.upload(),
            no_overwrite_dir_non_dir=call.flag("noOverwriteDirNonDir"),
            copy_uid_gid=call.flag("copyUIDGID"),
        )
    return call.empty(200)


async def export(call: Call) -> StreamResponse:
    """``GET /containers/{ref}/export``."""
    source = await call.engine.containers.export(call.identity, call.fields["ref"])
    async with Closing(source) as body:
        response = await open_stream(call, "application/octet-stream")
        await send_body(response, body)
    return response


async def commit(call: Call) -> Response:
    """``POST /commit``."""
    body = await call.json(Config)
    ref = call.text("container")
    if not ref:
        raise InvalidInput("missing parameter: 'container'")
    image_id = await call.engine.containers.commit(
        call.identity,
        ref,
        repo=call.text("repo"),
        tag=call.text("tag"),
        comment=call.text("comment"),
        author=call.text("author"),
        pause=call.flag("pause", default=True),
        changes=[line for text in call.texts("changes") for line in text.split("\n") if line],
        config=None if body == Config() else to_config(body),
    )
    return call.reply({"Id": image_id}, status=201)


_PATH = query("path")
ROUTES = (
    Route("HEAD", "/containers/{ref}/archive", head, verb="container.stat", query=_PATH),
    Route(
        "GET",
        "/containers/{ref}/archive",
        get,
        verb="container.read",
        disconnect="cancel",
        query=_PATH,
    ),
    Route(
        "PUT",
        "/containers/{ref}/archive",
        put,
        verb="container.write",
        disconnect="cancel",
        query=query("path", "noOverwriteDirNonDir", "copyUIDGID"),
    ),
    Route("GET", "/containers/{ref}/export", export, verb="container.export", disconnect="cancel"),
    Route(
        "POST",
        "/commit",
        commit,
        verb="container.commit",
        query=query(
            *"container repo tag comment author changes".split(),
            pause=limited("a container without a cgroup of its own is committed as it runs"),
        ),
        body=Config,
    ),
)
