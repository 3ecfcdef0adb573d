"""The words of single ``run`` flags: ports, mounts, devices, limits, environment.

Each function is pure (or reads one named file) and speaks Docker's syntax;
what is wrong is said with the words the user wrote.
"""

from __future__ import annotations

from rootless.cli.flags import UsageError
from rootless.client import lightos as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROTOCOLS = ("tcp", "udp", "sctp")
_BIND_MODES = frozenset(
    "ro rw z Z shared rshared slave rslave private rprivate nocopy consistent cached delegated "
    "exec noexec suid nosuid dev nodev rbind bind U O".split()
)


def port_range(text: str, *, whole: str) -> tuple[int, int]:
    """``80`` or ``80-90``."""
    low, mark, high = text.partition("-")
    try:
        first = int(low)
        last = int(high) if mark else first
    except ValueError:
        raise UsageError(f"invalid port in {whole!r}: {text!r} is not a number") from None
    if not 0 < first <= 65535 or not first <= last <= 65535:
        raise UsageError(f"invalid port range in {whole!r}: {text}")
    return first, last


def split_protocol(text: str) -> tuple[str, str]:
    """``80/udp`` as (``80``, ``udp``); tcp when nothing is said."""
    port, mark, protocol = text.partition("/")
    protocol = protocol.lower() if mark else "tcp"
    if protocol not in _PROTOCOLS:
        raise UsageError(f"invalid protocol in {text!r}: {protocol!r}")
    return port, protocol


def parse_publish(text: str) -> list[tuple[str, dict[str, str]]]:
    """One ``-p``: pairs of ``80/tcp`` and Docker's ``{HostIp, HostPort}``."""
    if "=" in text:
        text = _long_publish(text)
    body, protocol = split_protocol(text)
    host_ip, host, container = _split_publish(body, text)
    first, last = port_range(container, whole=text)
    if not host:
        return [
            (f"{port}/{protocol}", {"HostIp": host_ip, "HostPort": ""})
            for port in range(first, last + 1)
        ]
    low, high = port_range(host, whole=text) if host != "0" else (0, 0)
    if last == first:
        shown = f"{low}-{high}" if high > low else str(low)
        return [(f"{first}/{protocol}", {"HostIp": host_ip, "HostPort": shown})]
    if high - low != last - first:
        raise UsageError(f"invalid ranges specified for container and host ports: {text}")
    return [
        (f"{first + i}/{protocol}", {"HostIp": host_ip, "HostPort": str(low + i)})
        for i in range(last - first + 1)
    ]


def _split_publish(body: str, text: str) -> tuple[str, str, str]:
    if body.startswith("["):
        address, mark, rest = body[1:].partition("]:")
        if not mark:
            raise UsageError(f"invalid publish format: {text}")
    else:
        address, rest = "", body
        parts = body.split(":")
        if len(parts) > 2:
            address, rest = ":".join(parts[:-2]), ":".join(parts[-2:])
    host, mark, container = rest.rpartition(":")
    if not container:
        raise UsageError(f"no port specified: {text}")
    if address:
        from ipaddress import ip_address

        try:
            ip_address(address)
        except ValueError:
            raise UsageError(f"invalid IP address: {address} (in {text!r})") from None
    return address, host, container


def _long_publish(text: str) -> str:
    """``published=8080,target=80,protocol=udp`` in the short form."""
    values: dict[str, str] = {}
    for part in text.split(","):
        key, mark, value = part.partition("=")
        if not mark or key not in ("published", "target", "protocol", "mode"):
            raise UsageError(f"invalid field {key!r} in --publish {text!r}")
        values[key] = value
    if "target" not in values:
        raise UsageError(f"--publish {text!r} lacks target=PORT")
    published = f"{values['published']}:" if values.get("published") else ""
    return f"{published}{values['target']}/{values.get('protocol', 'tcp')}"


def parse_expose(text: str) -> list[str]:
    """One ``--expose``: ``80``, ``80-90/udp``."""
    if ":" in text:
        raise UsageError(f"invalid port format for --expose: {text}")
    body, protocol = split_protocol(text)
    first, last = port_range(body, whole=text)
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def parse_volume(text: str) -> tuple[str, str]:
    """One ``-v``: (bind, '') with the host path made absolute, or ('', anonymous target)."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0] or (len(parts) > 1 and not parts[1]):
        raise UsageError(f"invalid volume specification: '{text}'")
    if len(parts) == 1:
        _absolute_target(text, text)
        return "", text
    if len(parts) == 2 and not parts[1].startswith("/") and parts[0].startswith("/"):
        modes = parts[1].split(",")
        if all(mode in _BIND_MODES for mode in modes):
            raise UsageError(
                f"invalid volume specification: '{text}'",
                hint="an anonymous volume cannot have options; write NAME:TARGET:OPTIONS",
            )
    _absolute_target(parts[1], text)
    if len(parts) == 3:
        for mode in parts[2].split(","):
            if mode not in _BIND_MODES:
                raise UsageError(f"invalid mode in volume specification '{text}': {mode}")
    source = parts[0]
    if source.startswith((".", "~")):
        from os.path import abspath, expanduser

        source = abspath(expanduser(source))
    return ":".join([source, *parts[1:]]), ""


def _is_root(target: str) -> bool:
    parts = target.split("/")
    if ".." in parts:
        from os.path import normpath

        return normpath(target) == "/"
    return all(part in ("", ".") for part in parts)


def _absolute_target(target: str, text: str) -> None:
    if not target.startswith("/"):
        raise UsageError(
            f"invalid volume specification: '{text}': mount path must be absolute, not '{target}'"
        )
    if _is_root(target):
        raise UsageError(
            f"invalid volume specification: '{text}': destination can't be '/'",
        )


def parse_tmpfs(text: str) -> tuple[str, str]:
    """One ``--tmpfs``: the path and its options."""
    path, _, options = text.partition(":")
    if not path.startswith("/"):
        raise UsageError(f"invalid tmpfs mount {text!r}: the path must be absolute")
    return path, options


def parse_device(text: str) -> dict[str, str]:
    """One ``--device``: ``HOST[:CONTAINER][:rwm]``."""
    parts = text.split(":")
    host, container, permissions = parts[0], "", "rwm"
    if len(parts) == 2 and _is_device_mode(parts[1]):
        permissions = parts[1]
    elif len(parts) >= 2:
        container = parts[1]
        permissions = parts[2] if len(parts) == 3 else permissions
    if len(parts) > 3 or not host.startswith("/") or not _is_device_mode(permissions):
        raise UsageError(f"invalid device specification: {text}")
    return {
        "PathOnHost": host,
        "PathInContainer": container or host,
        "CgroupPermissions": permissions,
    }


def _is_device_mode(text: str) -> bool:
    return bool(text) and not text.strip("rwm") and len(set(text)) == len(text)


def parse_ulimit(text: str) -> dict[str, Any]:
    """One ``--ulimit``: ``nofile=1024:2048``."""
    name, mark, values = text.partition("=")
    soft, _, hard = values.partition(":")
    try:
        if not mark:
            raise ValueError
        low = -1 if soft in ("unlimited", "-1") else int(soft)
        high = low if not hard else -1 if hard in ("unlimited", "-1") else int(hard)
    except ValueError:
        raise UsageError(
            f"invalid ulimit argument: {text}", hint="write NAME=SOFT[:HARD], e.g. nofile=1024:2048"
        ) from None
    if high != -1 and (low == -1 or low > high):
        raise UsageError(f"ulimit soft limit must be less than or equal to hard limit: {text}")
    return {"Name": name, "Soft": low, "Hard": high}


def parse_rate(text: str, *, size: bool, key: str = "Rate") -> dict[str, Any]:
    """``/dev/sda:1mb`` (size) or ``/dev/sda:1000``."""
    path, mark, value = text.rpartition(":")
    if not mark or not path.startswith("/dev/"):
        raise UsageError(f"bad format: {text}", hint="write /dev/NAME:VALUE")
    if size:
        from rootless.units import parse_size

        return {"Path": path, key: parse_size(value)}
    from rootless.units import whole_number

    rate = whole_number(value)
    if rate is None:
        raise UsageError(f"invalid rate for device: {text}")
    return {"Path": path, key: rate}


def parse_restart(text: str) -> dict[str, Any]:
    """``--restart``: no, always, unless-stopped, on-failure[:N]."""
    name, mark, count = text.partition(":")
    known = ("no", "always", "unless-stopped", "on-failure", "")
    if name not in known:
        raise UsageError(f"invalid restart policy '{name}'", hint=f"one of {', '.join(known[:4])}")
    if mark and name != "on-failure":
        raise UsageError("maximum retry count can only be used with 'on-failure'")
    from rootless.units import whole_number

    most = whole_number(count) if mark else 0
    if most is None:
        raise UsageError("maximum retry count must be an integer")
    return {"Name": name or "no", "MaximumRetryCount": most}


def key_values(items: list[str]) -> dict[str, str]:
    """``A=b`` pairs as a map; a word without ``=`` has an empty value."""
    out = {}
    for item in items:
        key, _, value = item.partition("=")
        out[key] = value
    return out


def joined_options(items: list[str]) -> dict[str, str]:
    """Options of a network's driver; egress lists that are given several times are one."""
    out: dict[str, str] = {}
    for item in items:
        key, _, value = item.partition("=")
        out[key] = f"{out[key]};{value}" if key == "egress" and key in out else value
    return out


def labels(files: list[str], values: list[str]) -> dict[str, str]:
    """``--label-file`` then ``--label``; a label has a name."""
    lines = [line for path in files for line in read_env_file(path, what="label file")]
    for item in values:
        if not item.partition("=")[0]:
            raise UsageError(f"invalid label '{item}': empty name", hint="write NAME=VALUE")
    return key_values(lines + values)


def read_env_file(path: str, *, what: str = "env file") -> list[str]:
    """An ``--env-file``: one NAME=VALUE or NAME per line, ``#`` comments."""
    lines = []
    for number, raw in enumerate(_text(path, what).split("\n"), 1):
        line = raw.rstrip("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name = line.partition("=")[0]
        if not name or any(char.isspace() for char in name):
            raise UsageError(f"invalid {what} ({path}:{number}): '{name}' is not a name")
        lines.append(line)
    return lines


def environment(files: list[str], values: list[str], proxies: list[str]) -> list[str]:
    """``--env-file`` then ``-e``; a bare NAME takes this process's value or is left out.

    ``proxies`` (of ~/.docker/config.json) come first, so that both override them.
    """
    merged: dict[str, str] = {}
    for item in [*proxies, *(line for path in files for line in read_env_file(path)), *values]:
        name, mark, _ = item.partition("=")
        if not name:
            raise UsageError(f"invalid environment variable: {item}")
        if mark:
            merged[name] = item
        elif (found := os.environ.get(name)) is not None:
            merged[name] = f"{name}={found}"
        else:
            merged.pop(name, None)
    return list(merged.values())


def security_options(items: list[str]) -> list[str]:
    """``--security-opt``: a seccomp FILE is read and sent as its content, as Docker does."""
    out = []
    for item in items:
        key, mark, value = item.partition("=")
        if not mark:
            key, mark, value = item.partition(":")
        if key == "seccomp" and not value:
            raise UsageError(
                f'invalid --security-opt: "{item}"',
                hint="seccomp=FILE, seccomp=builtin, seccomp=unconfined",
            )
        if key == "seccomp" and value not in ("unconfined", "builtin", "default"):
            text = _text(value, "seccomp profile")
            from rootless.client import jsonlite

            try:
                out.append(f"seccomp={jsonlite.dumps(jsonlite.loads(text))}")
            except (ValueError, RecursionError):
                raise UsageError(f"the seccomp profile {value} is not JSON") from None
        elif mark and key != "no-new-privileges":
            out.append(f"{key}={value}")
        else:
            out.append(item)
    return out


def _text(path: str, what: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"cannot read the {what} {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the {what} {path} is not UTF-8") from None
