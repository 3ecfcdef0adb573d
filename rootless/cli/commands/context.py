"""``rootless context``: Docker's contexts, which both clients share."""

from __future__ import annotations

import os
import sys

from rootless.cli.command import (
    BOOL,
    FORMAT_HELP,
    INSPECT_FORMAT_HELP,
    LIST,
    STRING,
    Command,
    Invocation,
)
from rootless.cli.each import each
from rootless.cli.flags import UsageError
from rootless.cli.formats import Listing
from rootless.client import clientconfig, contextfile, contexts, dockerconfig
from rootless.client.contexts import Context
from rootless.client.endpoint import DEFAULT, Tls, Where, context_name
from rootless.errors import Conflict, InvalidInput, RootlessError

_DESCRIPTION = "Current DOCKER_HOST based configuration"
_KEYS = ("ca", "cert", "from", "host", "key", "skip-tls-verify")
_WIDEST_ERROR = 45


def _current(call: Invocation) -> str:
    return context_name(call.where or Where(), clientconfig.read())[0]


def _row(name: str, current: str) -> dict[str, object]:
    row: dict[str, object] = {"Name": name, "Current": name == current, "Description": ""}
    try:
        context = contexts.find(name)
        description = _DESCRIPTION if name == DEFAULT else context.description
        row |= {"Description": description, "DockerEndpoint": context.host}
    except RootlessError as error:
        row["Error"] = error.message
    return row


def _shortened(text: object) -> str:
    words = str(text)
    return words if len(words) <= _WIDEST_ERROR else words[: _WIDEST_ERROR - 1] + "…"


def _ls(call: Invocation) -> int:
    current = _current(call)
    names = sorted({DEFAULT, current, *contexts.names()})
    form = call["format"]
    shown = Listing(
        {"Name": "NAME", "Description": "DESCRIPTION", "DockerEndpoint": "DOCKER ENDPOINT",
         "Error": "ERROR", "Current": "CURRENT"},
        {
            "Name": lambda row: row["Name"],
            "Description": lambda row: row["Description"],
            "DockerEndpoint": lambda row: row.get("DockerEndpoint", ""),
            "Error": lambda row: _shortened(row.get("Error", "")),
            "Current": lambda row: row["Current"],
        },
        ("Name", "Description", "DockerEndpoint", "Error"),
    )  # fmt: skip
    rows = [_row(name, current) for name in names]
    if call["quiet"]:
        sys.stdout.write("".join(f"{name}\n" for name in names))
    elif form in ("", "table"):
        for row in rows:
            row["Name"] = f"{row['Name']} *" if row["Current"] else row["Name"]
        shown.print(rows, "")
    else:
        shown.print(rows, form)
    _warn_of_host()
    return 0


def _warn_of_host() -> None:
    for name in ("ROOTLESS_HOST", "DOCKER_HOST"):
        if os.environ.get(name):
            sys.stderr.write(
                f"Warning: {name} environment variable overrides the active context. To use a "
                f"context, either set the global --context flag, or unset {name}.\n"
            )
            return


def _show(call: Invocation) -> int:
    sys.stdout.write(f"{_current(call)}\n")
    return 0


def _use(call: Invocation) -> int:
    name = call.args[0]
    if name != DEFAULT:
        contexts.check_name(name)
        contexts.load(name)
    _set_current("" if name == DEFAULT else name)
    sys.stdout.write(f"{name}\n")
    sys.stderr.write(f'Current context is now "{name}"\n')
    if name != DEFAULT:
        _warn_of_host()
    return 0


def _set_current(name: str) -> None:
    config = dockerconfig.load()
    if config.get("currentContext", "") == name:
        return  # which also makes no file where there was none
    config.pop("currentContext", None)
    if name:
        config["currentContext"] = name
    dockerconfig.save(config)


def _inspect(call: Invocation) -> int:
    found = []
    status = 0
    for name in call.args or [_current(call)]:
        try:
            found.append(_inspected(contexts.find(name)))
        except RootlessError as error:
            sys.stderr.write(f"rootless: {error.message}\n")
            status = 1
    if call["format"]:
        from rootless.cli.formats import print_one

        for document in found:
            print_one(call["format"], document)
        return status
    from rootless.client import jsonlite

    sys.stdout.write(jsonlite.pretty(found) + "\n")
    return status


def _inspected(context: Context) -> dict[str, object]:
    kept = context.name != DEFAULT
    return {
        **{key: context.document.get(key) for key in ("Name", "Metadata", "Endpoints")},
        "TLSMaterial": {"docker": sorted(context.tls)} if context.tls else {},
        "Storage": {
            "MetadataPath": contexts.meta_path(context.name) if kept else "<IN MEMORY>",
            "TLSPath": contexts.tls_path(context.name) if kept else "<IN MEMORY>",
        },
    }


def _create(call: Invocation) -> int:
    name = call.args[0]
    contexts.check_name(name)
    if call["docker"] and call["from"]:
        raise InvalidInput("cannot use --docker flag when --from is set")
    if call["docker"]:
        endpoint, tls = _endpoint(call["docker"])
        document: dict[str, object] = {"Metadata": {}, "Endpoints": {"docker": endpoint}}
    else:
        source = contexts.find(call["from"] or _current(call))
        document, tls = source.document, source.tls
    contexts.create(Context(name, _described(document, call["description"]), tls))
    sys.stdout.write(f"{name}\n")
    sys.stderr.write(f'Successfully created context "{name}"\n')
    return 0


def _described(document: dict[str, object], text: str) -> dict[str, object]:
    metadata = document.get("Metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    return {**document, "Metadata": {**metadata, **({"Description": text} if text else {})}}


def _update(call: Invocation) -> int:
    name = call.args[0]
    contexts.check_name(name)
    context = contexts.load(name)
    document, tls = _described(context.document, call["description"]), context.tls
    if call["docker"]:
        endpoint, tls = _endpoint(call["docker"])
        kept = document.get("Endpoints")
        others = kept if isinstance(kept, dict) else {}
        document = {**document, "Endpoints": {**others, "docker": endpoint}}
    contexts.save(Context(name, document, tls))
    sys.stdout.write(f"{name}\n")
    sys.stderr.write(f'Successfully updated context "{name}"\n')
    return 0


def _endpoint(items: list[str]) -> tuple[dict[str, object], dict[str, bytes]]:
    """``--docker "host=…,ca=…"``: the endpoint and its files."""
    given = {}
    for pair in ",".join(items).split(","):
        key, mark, value = pair.partition("=")
        if not mark:
            raise UsageError(f"{pair} must be formatted as key=value")
        if key not in _KEYS:
            raise InvalidInput(f"unrecognized config key: {key}", hint=f"one of {', '.join(_KEYS)}")
        given[key] = value
    if "from" in given:
        source = contexts.find(given["from"])
        return source.endpoint, source.tls
    skip = given.get("skip-tls-verify", "false").lower()
    if skip not in ("true", "false", "1", "0"):
        raise InvalidInput(f"skip-tls-verify: invalid boolean: {skip}")
    tls = {}
    for key in ("ca", "cert", "key"):
        if path := given.get(key):
            with open(os.path.expanduser(path), "rb") as file:
                tls[f"{key}.pem"] = file.read()
    host = given.get("host", "")
    _check_host(host, given, skip=skip in ("true", "1"))
    return {"Host": host, "SkipTLSVerify": skip in ("true", "1")}, tls


def _check_host(host: str, given: dict[str, str], *, skip: bool) -> None:
    """What cannot be an address, or could not be used, is told now."""
    from rootless.client.endpoint import Endpoint

    if not host:
        raise InvalidInput("docker endpoint configuration is required", hint="--docker host=…")
    files = [os.path.expanduser(given.get(key, "")) for key in ("ca", "cert", "key")]
    tls = Tls(files[0], files[1], files[2], verify=not skip) if any(files) or skip else None
    if tls is not None and host.startswith("tcp://"):
        from rootless.client.tlsrelay import client_context

        client_context(tls)
    Endpoint(host, tls=tls)


def _rm(call: Invocation) -> int:
    current = _current(call)

    def one(name: str) -> None:
        if name == DEFAULT:
            raise InvalidInput('context "default" cannot be removed')
        if name == current and not call["force"]:
            raise Conflict(f'context "{name}" is in use, set -f flag to force remove')
        contexts.remove(name)
        if name == current:
            _set_current("")

    return each(call.args, one)


def _export(call: Invocation) -> int:
    context = contexts.find(call.args[0])
    target = call.args[1] if len(call.args) > 1 else f"{context.name}.dockercontext"
    if target == "-":
        if os.isatty(1):
            raise UsageError(
                "cowardly refusing to export to a terminal, specify a file path", status=1
            )
        contextfile.export(context, sys.stdout.buffer)
        return 0
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        contextfile.export(context, file)
    sys.stderr.write(f'Written file "{target}"\n')
    return 0


def _import(call: Invocation) -> int:
    name, path = call.args
    contexts.check_name(name)
    if path == "-":
        context = contextfile.read(name, sys.stdin.buffer)
    else:
        with open(path, "rb") as file:
            context = contextfile.read(name, file)
    contexts.create(context)
    sys.stdout.write(f"{name}\n")
    sys.stderr.write(f'Successfully imported context "{name}"\n')
    return 0


_ENDPOINT = """
--docker takes KEY=VALUE pairs: host (unix://PATH, tcp://HOST:PORT, ssh://[USER@]HOST), ca,
cert and key (files, which are copied), skip-tls-verify, and from (another context).
The files are those of Docker's client, below ~/.docker/contexts: each sees the other's.
"""
_DESCRIBE = ("description", "", STRING, "", "Description of the context")
_DOCKER = ("docker", "", LIST, None, "Set the daemon's endpoint, for example host=tcp://box:2376")

CREATE = Command(
    _create,
    usage="context create [OPTIONS] CONTEXT",
    summary="Create a context",
    description=_ENDPOINT,
    flags=(_DESCRIBE, _DOCKER, ("from", "", STRING, "", "Create it from a named context")),
    min_args=1,
    max_args=1,
    examples="rootless context create box --docker "
    "host=tcp://box:2376,ca=ca.pem,cert=cert.pem,key=key.pem",
)
EXPORT = Command(
    _export,
    usage="context export CONTEXT [FILE|-]",
    summary="Export a context to a tar archive FILE or a tar stream on STDOUT",
    description="The archive holds the private key.",
    min_args=1,
    max_args=2,
    examples="rootless context export box - | ssh laptop rootless context import box -",
)
IMPORT = Command(
    _import,
    usage="context import CONTEXT FILE|-",
    summary="Import a context from a tar archive",
    min_args=2,
    max_args=2,
    examples="rootless context import box box.dockercontext",
)
INSPECT = Command(
    _inspect,
    usage="context inspect [OPTIONS] [CONTEXT...]",
    summary="Display detailed information on one or more contexts",
    flags=(("format", "f", STRING, "", INSPECT_FORMAT_HELP),),
    max_args=None,
    examples="rootless context inspect --format '{{.Endpoints.docker.Host}}' box",
)
LS = Command(
    _ls,
    usage="context ls [OPTIONS]",
    summary="List contexts",
    aliases="context ls, context list",
    flags=(
        ("format", "", STRING, "", FORMAT_HELP),
        ("quiet", "q", BOOL, False, "Only show context names"),
    ),
    examples="rootless context ls",
)
RM = Command(
    _rm,
    usage="context rm [OPTIONS] CONTEXT [CONTEXT...]",
    summary="Remove one or more contexts",
    aliases="context rm, context remove",
    flags=(("force", "f", BOOL, False, "Force the removal of a context in use"),),
    min_args=1,
    max_args=None,
    examples="rootless context rm box",
)
SHOW = Command(
    _show,
    usage="context show",
    summary="Print the name of the current context",
    examples="rootless context show",
)
UPDATE = Command(
    _update,
    usage="context update [OPTIONS] CONTEXT",
    summary="Update a context",
    description=_ENDPOINT,
    flags=(_DESCRIBE, _DOCKER),
    min_args=1,
    max_args=1,
    examples="rootless context update --description 'the big one' box",
)
USE = Command(
    _use,
    usage="context use CONTEXT",
    summary="Set the context that commands use by default",
    description="""
It is currentContext of ~/.docker/config.json, for Docker's client as well. `default` goes
back to the user's own daemon. A context that was not named on the command line has to lead
to an engine of this kind: it is asked first.
""",
    min_args=1,
    max_args=1,
    examples="rootless context use box",
)
