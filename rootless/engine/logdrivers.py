"""From a container's log options to the plan of its shim, and where its log is read."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rootless.engine import logoptions, logtags
from rootless.engine.logoptions import FileOptions, LogOptions
from rootless.errors import NotReadable
from rootless.model.plan import LogPlan
from rootless.model.request import LogConfig
from rootless.model.spec import ContainerSpec

_JOURNAL = "/run/systemd/journal/socket"
JOURNAL_VARIABLE = "ROOTLESS_JOURNAL_SOCKET"
"""Names the socket of a journald that is not at its usual place, such as that of a namespace."""
_OWN_FIELDS = frozenset(
    """MESSAGE MESSAGE_ID PRIORITY CODE_FILE CODE_LINE CODE_FUNC ERRNO SYSLOG_FACILITY
    SYSLOG_IDENTIFIER SYSLOG_PID SYSLOG_TIMESTAMP CONTAINER_NAME CONTAINER_ID CONTAINER_ID_FULL
    CONTAINER_TAG IMAGE_NAME CONTAINER_PARTIAL_ID CONTAINER_PARTIAL_ORDINAL CONTAINER_PARTIAL_LAST
    CONTAINER_PARTIAL_MESSAGE CONTAINER_LOG_EPOCH CONTAINER_LOG_ORDINAL""".split()
)


@dataclass(frozen=True, slots=True)
class LogFiles:
    """What there is to read: the newest file, and what is in it."""

    path: Path
    format: Literal["json", "blocks"]


def log_files(spec: ContainerSpec, directory: Path) -> LogFiles | None:
    """Where the container's log can be read; None when it cannot."""
    if spec.log.type == "json-file":
        return LogFiles(directory / f"{spec.id}-json.log", "json")
    if spec.log.type == "local":
        return LogFiles(directory / "local.log", "blocks")
    if logoptions.read(spec.log).copy is not None:
        return LogFiles(directory / "container-cached.log", "blocks")
    return None


def readable_log(spec: ContainerSpec, directory: Path) -> LogFiles:
    """:func:`log_files`; NotReadable when there are none."""
    files = log_files(spec, directory)
    if files is None:
        with_copy = "" if spec.log.type == "none" else " and --log-opt cache-disabled=true"
        raise NotReadable(
            "configured logging driver does not support reading",
            hint=f"the container was made with --log-driver {spec.log.type}{with_copy}",
        )
    return files


def log_path(spec: ContainerSpec, directory: Path) -> str:
    """What ``inspect`` tells, as in Docker: only the file of json-file is for others."""
    return str(directory / f"{spec.id}-json.log") if spec.log.type == "json-file" else ""


def check_log(spec: ContainerSpec) -> tuple[str, ...]:
    """Refuse what the driver cannot keep; what has no effect."""
    make_plan(spec, Path("/"))
    return logoptions.warnings(spec.log)


def check_defaults(config: LogConfig) -> None:
    """Refuse options that no container could have, whatever it is like."""
    logoptions.read(config)
    for key, value in config.config:
        if not value:
            continue
        if key.endswith("-regex"):
            logtags.matcher(value)
        elif key in ("tag", "cache-tag"):
            logtags.parse_tag(value)


def make_plan(spec: ContainerSpec, directory: Path) -> LogPlan:
    """The plan of one start; the tag and the attributes are those of now."""
    options = logoptions.read(spec.log)
    files = log_files(spec, directory)
    if options.driver == "none":
        return LogPlan()
    given = dict(spec.log.config)
    attrs = logtags.attributes(given, spec)
    if options.file is not None:
        assert files is not None
        if given.get("tag"):
            attrs["tag"] = logtags.tag(given, spec, "")
        if options.driver == "json-file" and not (attrs or options.drop or options.file.compress):
            return LogPlan(str(files.path), options.file.max_size, options.file.max_files)
        return _more(options, file=_file(files.path, options.file, attrs))
    more: dict[str, object] = {}
    if options.copy is not None:
        assert files is not None
        cached = {k.removeprefix("cache-"): v for k, v in given.items() if k.startswith("cache-")}
        attrs |= logtags.attributes(cached, spec)
        if cached.get("tag"):
            attrs["tag"] = logtags.tag(cached, spec, "")
        more["copy"] = _file(files.path, options.copy, attrs)
    tag = logtags.tag(given, spec, logtags.DEFAULT_TAG)
    if options.driver == "syslog":
        return _more(options, sink=_syslog(options, tag), **more)
    return _more(options, sink=_journald(spec, given, tag), **more)


def _more(options: LogOptions, **parts: object) -> LogPlan:
    plan = {"driver": options.driver, "drop": options.drop, "buffer": options.buffer, **parts}
    return LogPlan(more=json.dumps(plan))


def _file(path: Path, options: FileOptions, attrs: dict[str, str]) -> dict[str, object]:
    text = json.dumps(attrs, ensure_ascii=False, separators=(",", ":")) if attrs else ""
    return {
        "path": str(path),
        "size": options.max_size,
        "files": options.max_files,
        "compress": options.compress,
        "attrs": text,
    }


def _syslog(options: LogOptions, tag: str) -> dict[str, object]:
    syslog = options.syslog
    assert syslog is not None
    return {
        "network": syslog.network,
        "address": syslog.address,
        "facility": syslog.facility,
        "format": syslog.format,
        "tag": "".join(char if char.isprintable() else "_" for char in tag),
        "hostname": socket.gethostname(),
        "tls": {
            "ca": syslog.ca, "cert": syslog.cert, "key": syslog.key, "verify": syslog.verify
        },
    }  # fmt: skip


def _journald(spec: ContainerSpec, given: dict[str, str], tag: str) -> dict[str, object]:
    fields = {
        "CONTAINER_ID": spec.id[:12],
        "CONTAINER_ID_FULL": spec.id,
        "CONTAINER_NAME": spec.name,
        "CONTAINER_TAG": tag,
        "IMAGE_NAME": spec.image.reference,
        "SYSLOG_IDENTIFIER": tag,
    }
    for name, value in logtags.attributes(given, spec, logtags.journal_name).items():
        if name and name not in _OWN_FIELDS:
            fields[name] = value
    address = os.environ.get(JOURNAL_VARIABLE) or _JOURNAL
    return {"address": address, "fields": [list(field) for field in fields.items()]}
