"""Images."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence

from aiohttp.web_response import Response, StreamResponse

from rootless.api.call import Call, json_bytes
from rootless.api.dto import compat
from rootless.api.dto import image as view
from rootless.api.dto.decode import decode
from rootless.api.dto.system import AuthBody, to_auth
from rootless.api.errors import HttpError, status_and_message
from rootless.api.fields import limited, query, since
from rootless.api.router import Route
from rootless.api.streams import Closing, open_stream, send_body
from rootless.errors import InvalidInput, NotFound, Unauthorized
from rootless.images import platform as platforms
from rootless.images import reference as references
from rootless.model.records import Progress, RegistryAuth

log = logging.getLogger("rootless.api")


def auth(call: Call) -> RegistryAuth | None:
    """The credentials of X-Registry-Auth; ``None`` without any.

    What is none counts as none, as in Docker: clients send any word there for a push
    without credentials.
    """
    try:
        raw = call.base64_header("X-Registry-Auth")
        if not raw.strip():
            return None
        body, warnings = decode(raw, AuthBody)
    except InvalidInput as error:
        call.warnings += [f"X-Registry-Auth was ignored: {error}"]
        return None
    call.warnings += (f"X-Registry-Auth: {text}" for text in warnings)
    found = to_auth(body)
    return None if found == RegistryAuth() else found


@contextlib.contextmanager
def _credentials_wanted() -> Iterator[None]:
    """What a registry refuses for want of credentials is 500, as Docker answers it.

    At 401 Docker's command line asks for a name and a password, and waits for ever where
    nobody is there to answer.
    """
    try:
        yield
    except Unauthorized as error:
        raise HttpError(500, str(error)) from None


async def _send_progress(
    call: Call, source: AsyncIterator[Progress], *, quiet: bool = False
) -> StreamResponse:
    """JSON lines, ``quiet`` without those of layers; an error after the head is the last line."""
    async with Closing(source) as messages:
        response = await open_stream(call, "application/json")
        try:
            async for message in messages:
                if quiet and message.id:
                    continue
                await response.write(json_bytes(view.progress(message)) + b"\r\n")
        except ConnectionError:
            raise
        except Exception as error:
            during = f"{call.request.method} {call.request.path}"
            _, text = status_and_message(error, during=during)
            await response.write(json_bytes(view.progress(Progress(error=text))) + b"\r\n")
        await response.write_eof()
    return response


def _platform(call: Call, text: str) -> str:
    """The API's platform object (``os``, ``architecture``, ``variant``) as os/arch/variant."""
    if not text:
        return ""
    body, warnings = decode(text.encode(), view.PlatformBody)
    call.warnings += (f"platform: {line}" for line in warnings)
    if not body.os or not body.architecture:
        raise InvalidInput(
            f"invalid platform: {text[:100]}", hint='{"os": "linux", "architecture": "amd64"}'
        )
    return "/".join(filter(None, (body.os, body.architecture, body.variant)))


async def _check_platform(call: Call, names: Sequence[str], texts: Sequence[str]) -> None:
    """An image is kept for one platform: refuse when another is asked for."""
    for text in texts:
        wanted = _platform(call, text)
        for name in names if wanted else ():
            image = await call.engine.images.inspect(call.identity, name)
            actual = platforms.Platform(image.os, image.architecture)
            if not platforms.same(actual, platforms.parse(wanted)):
                raise NotFound(
                    f"image {name} was found but does not provide the platform {wanted}: "
                    f"it is for {actual}"
                )


async def list_(call: Call) -> Response:
    """``GET /images/json``."""
    shared_size = call.flag("shared-size")
    filters = call.filters()
    if call.version < (1, 41) and call.text("filter"):
        filters.setdefault("reference", []).append(call.text("filter"))
    images = await call.engine.images.list(
        call.identity, filters=filters, all=call.flag("all"), shared_size=shared_size
    )
    manifests = call.flag("manifests")
    bodies = [
        compat.image_summary(view.summary(image, manifests=manifests), call.version)
        for image in images
    ]
    return call.reply(bodies)


async def facts(call: Call) -> Response:
    """``GET /rootless/images/{name}``: what policies look at, for ``check-policy --image``."""
    return call.reply(
        view.facts(await call.engine.images.facts(call.identity, call.fields["name"]))
    )


async def inspect(call: Call) -> Response:
    """``GET /images/{name}/json``."""
    if call.flag("manifests") and call.text("platform"):
        raise InvalidInput("conflicting options: manifests and platform options cannot both be set")
    image = await call.engine.images.inspect(call.identity, call.fields["name"])
    await _check_platform(call, [call.fields["name"]], [call.text("platform")])
    body = view.inspect(image, manifests=call.flag("manifests"))
    body["GraphDriver"] = {"Name": call.config.storage_driver, "Data": {}}
    return call.reply(compat.image_size(body, call.version))


async def history(call: Call) -> Response:
    """``GET /images/{name}/history``."""
    await _check_platform(call, [call.fields["name"]], [call.text("platform")])
    entries = await call.engine.images.history(call.identity, call.fields["name"])
    return call.reply([view.history(entry) for entry in entries])


async def create(call: Call) -> StreamResponse:
    """``POST /images/create``: pull (``fromImage``) or import (``fromSrc``)."""
    platform = call.text("platform")
    tag = call.text("tag")
    image = call.text("fromImage")
    if image:
        with _credentials_wanted():
            source = await call.engine.images.pull(
                call.identity,
                _reference(image, tag),
                platform=platform,
                auth=auth(call),
                all_tags=not tag,
            )
        return await _send_progress(call, source)
    origin = call.text("fromSrc")
    if origin != "-":
        raise InvalidInput(
            f"cannot import from {origin!r}: the daemon fetches nothing by URL",
            hint="download it and pipe it in: curl URL | rootless import -",
        )
    source = await call.engine.images.import_(
        call.identity,
        call.upload(),
        repo=call.text("repo"),
        tag=tag,
        message=call.text("message"),
        changes=[line for text in call.texts("changes") for line in text.split("\n") if line],
        platform=platform,
    )
    return await _send_progress(call, source)


def _reference(image: str, tag: str) -> str:
    """A name and ``tag``, which counts where both have one, together; it may be a digest."""
    if not tag:
        return image
    name = references.parse(image)
    if ":" in tag:
        return name.with_digest(tag).familiar
    digest = f"@{name.digest}" if name.digest else ""
    return f"{name.with_tag(tag).familiar}{digest}"


async def push(call: Call) -> StreamResponse:
    """``POST /images/{name}/push``."""
    reference = _reference(call.fields["name"], call.text("tag"))
    if call.text("tag"):  # without one all tags are pushed
        await _check_platform(call, [reference], [call.text("platform")])
    with _credentials_wanted():
        source = await call.engine.images.push(call.identity, reference, auth=auth(call))
    return await _send_progress(call, source)


async def tag(call: Call) -> Response:
    """``POST /images/{name}/tag``."""
    await call.engine.images.tag(
        call.identity, call.fields["name"], repo=call.text("repo"), tag=call.text("tag")
    )
    return call.empty(201)


async def remove(call: Call) -> Response:
    """``DELETE /images/{name}``."""
    await _check_platform(call, [call.fields["name"]], call.texts("platforms"))
    lines = await call.engine.images.remove(
        call.identity,
        call.fields["name"],
        force=call.flag("force"),
        prune_parents=not call.flag("noprune"),
    )
    return call.reply([view.deletion(line) for line in lines])


async def prune(call: Call) -> Response:
    """``POST /images/prune``."""
    report = await call.engine.images.prune(call.identity, filters=call.filters())
    lines = [view.deletion(line) for line in report.images]
    return call.reply({"ImagesDeleted": lines or None, "SpaceReclaimed": report.space_reclaimed})


async def save(call: Call) -> StreamResponse:
    """``GET /images/get?names=…`` and ``GET /images/{name}/get``."""
    name = call.fields.get("name")
    names = [name] if name else call.texts("names")
    if not names:
        raise InvalidInput("no image names given", hint="names=IMAGE, once for each")
    await _check_platform(call, names, call.texts("platform"))
    source = await call.engine.images.save(call.identity, names)
    async with Closing(source) as body:
        response = await open_stream(call, "application/x-tar")
        await send_body(response, body)
    return response


async def load(call: Call) -> StreamResponse:
    """``POST /images/load``; what is wrong with the archive is said in the stream, as Docker does.

    docker-py knows a failed load by that line only.
    """
    platform = _platform(call, call.text("platform"))
    try:
        source = await call.engine.images.load(call.identity, call.upload(), platform=platform)
    except InvalidInput as error:
        source = _failed(error)
    return await _send_progress(call, source, quiet=call.flag("quiet"))


async def _failed(error: InvalidInput) -> AsyncIterator[Progress]:
    yield Progress(error=str(error))


async def search(call: Call) -> Response:
    """``GET /images/search``."""
    with _credentials_wanted():
        found = await call.engine.images.search(
            call.identity,
            call.text("term"),
            limit=call.number("limit") or 0,
            filters=call.filters(),
            auth=auth(call),
        )
    return call.reply([dict(result) for result in found])


_PLATFORM = query(platform=since(1, 48))
_LOAD = query("quiet", platform=since(1, 48))
_SAVE = query("names", platform=since(1, 48))
ROUTES = (
    Route(
        "GET",
        "/images/json",
        list_,
        verb="image.list",
        query=query(
            "all",
            "filters",
            shared_size=since(1, 42),
            digests=limited("RepoDigests are always there, as in Docker"),
            manifests=since(1, 47, "the one of the platform it is kept for"),
            filter=limited("until 1.40; the filter reference since"),
        ),
    ),
    Route("GET", "/images/get", save, verb="image.save", disconnect="cancel", query=_SAVE),
    Route(
        "GET",
        "/images/search",
        search,
        verb="image.search",
        disconnect="cancel",
        query=query("term", "limit", "filters"),
    ),
    Route(
        "POST",
        "/images/create",
        create,
        verb="image.pull image.import",
        disconnect="cancel",
        query=query(
            *"fromImage repo tag message changes".split(),
            platform=since(1, 32),
            fromSrc=limited("only -, the body: the daemon fetches nothing by URL"),
        ),
    ),
    Route("POST", "/images/load", load, verb="image.load", disconnect="cancel", query=_LOAD),
    Route("POST", "/images/prune", prune, verb="image.prune", query=query("filters")),
    Route(
        "GET",
        "/images/{name:.+}/json",
        inspect,
        verb="image.inspect",
        query=query(platform=since(1, 49), manifests=since(1, 48)),
    ),
    Route("GET", "/rootless/images/{name:.+}", facts, verb="image.inspect"),
    Route("GET", "/images/{name:.+}/history", history, verb="image.history", query=_PLATFORM),
    Route(
        "GET",
        "/images/{name:.+}/get",
        save,
        verb="image.save",
        disconnect="cancel",
        query=_PLATFORM,
    ),
    Route(
        "POST",
        "/images/{name:.+}/push",
        push,
        verb="image.push",
        disconnect="cancel",
        query=query("tag", platform=since(1, 46)),
    ),
    Route("POST", "/images/{name:.+}/tag", tag, verb="image.tag", query=query("repo", "tag")),
    Route(
        "DELETE",
        "/images/{name:.+}",
        remove,
        verb="image.remove",
        query=query("force", "noprune", platforms=since(1, 50)),
    ),
)
