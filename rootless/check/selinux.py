"""``rootless audit selinux``: what SELinux denied to containers, from the kernel's messages.

Read where permitted: the audit daemon's log (on Debian for the group adm), else the
kernel's own buffer (root, unless kernel.dmesg_restrict is 0). The format is the
kernel's, security/selinux/avc.c and lib/audit: ``type=AVC msg=audit(TIME:SERIAL): avc:
denied { PERMISSION… } for pid=… comm="…" … scontext=… tcontext=… tclass=… permissive=0``.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rootless.client.api import Client
from rootless.errors import HostUnsupported, RootlessError
from rootless.policy.reports.as_text import plain

LOGS = ("/var/log/audit/audit.log",)
_KERNEL = "/dev/kmsg"
_RECORD = 8192
_LINE = re.compile(
    r"audit\((?P<time>[0-9]+\.[0-9]+):[0-9]+\): +avc: +denied +\{ (?P<what>[^}]*) \}"
)
_FIELD = re.compile(r'(\w+)=("[^"]*"|\S+)')


@dataclass(frozen=True, slots=True)
class SelinuxDenial:
    """One denied access. ``time`` is Unix time in seconds; ``object`` a path or a name."""

    time: float
    permissions: str
    program: str
    kind: str
    object: str
    source: str
    target: str
    permissive: bool
    container: str = ""


def parse(text: str) -> SelinuxDenial | None:
    """The denial that a line tells of; None for any other line."""
    match = _LINE.search(text)
    if match is None:
        return None
    fields = {key: value.strip('"') for key, value in _FIELD.findall(text[match.end() :])}
    return SelinuxDenial(
        time=float(match["time"]),
        permissions=match["what"].strip(),
        program=_text(fields.get("comm", "")),
        kind=fields.get("tclass", ""),
        object=_text(fields.get("path", fields.get("name", ""))),
        source=fields.get("scontext", ""),
        target=fields.get("tcontext", ""),
        permissive=fields.get("permissive") == "1",
    )


def _text(value: str) -> str:
    """What the kernel wrote in hexadecimal digits because of spaces or quotes in it."""
    if re.fullmatch("([0-9A-F]{2}){2,}", value):
        return bytes.fromhex(value).decode(errors="replace").replace("\0", " ")
    return value


def _of_containers(denial: SelinuxDenial) -> bool:
    kind = denial.source.split(":")[2] if denial.source.count(":") >= 2 else ""
    return kind.startswith("container_") or bool(denial.container)


def lines() -> Iterator[str]:
    """The kernel's messages, oldest first; HostUnsupported when none may be read."""
    found = False
    for name in LOGS:
        for path in sorted(Path(name).parent.glob(f"{Path(name).name}*"), reverse=True):
            try:
                with open(path, errors="replace") as file:
                    found = True
                    yield from file
            except PermissionError:
                continue
    if found:
        return
    try:
        yield from _kernel_buffer()
    except OSError as error:
        raise HostUnsupported(
            f"the kernel's messages cannot be read: {_KERNEL}: {error.strerror}",
            hint="as root, or as a member of the group that may read /var/log/audit",
        ) from None


def _kernel_buffer() -> Iterator[str]:
    fd = os.open(_KERNEL, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while True:
            try:
                yield os.read(fd, _RECORD).decode(errors="replace")
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EPIPE:  # overwritten meanwhile: the next one follows
                    raise
    finally:
        os.close(fd)


def names_by_label() -> dict[str, str]:
    """Names of the containers there are, by process label; {} without a daemon."""
    try:
        client = Client(autostart=False)
        try:
            ids = [str(item["Id"]) for item in client.get("/containers/json?all=1")]
            found = [client.get(f"/containers/{ident}/json") for ident in ids]
        finally:
            client.close()
    except RootlessError:
        return {}
    named = ((str(record.get("ProcessLabel") or ""), str(record["Name"])) for record in found)
    return {label: name.lstrip("/") for label, name in named if label}


def denials(texts: Iterable[str], names: Mapping[str, str]) -> Iterator[SelinuxDenial]:
    """Those of containers among ``texts``, with the names of containers that are known."""
    for text in texts:
        denial = parse(text)
        if denial is None:
            continue
        one = SelinuxDenial(**{**asdict(denial), "container": names.get(denial.source, "")})
        if _of_containers(one):
            yield one


def show(form: str) -> None:
    """Print every denial, as text or as JSON, one a line."""
    for denial in denials(lines(), names_by_label()):
        if form == "json":
            print(json.dumps(asdict(denial)), flush=True)
            continue
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(denial.time))
        who = denial.container or denial.source
        what = f"{denial.kind} {denial.object}".strip()
        verdict = "would be denied" if denial.permissive else "DENIED"
        text = f"{when} {who} {denial.program}: {denial.permissions} of {what} ({denial.target})"
        print(plain(f"{text}: {verdict}"), flush=True)
    sys.stdout.flush()
