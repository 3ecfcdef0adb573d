"""``rootless info``."""

from __future__ import annotations

import sys

from rootless.cli.command import INSPECT_FORMAT_HELP, STRING, Command, Invocation
from rootless.cli.formats import print_one
from rootless.cli.human import size_binary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LINES: tuple[tuple[str, str], ...] = (
    ("Containers", "Containers"),
    (" Running", "ContainersRunning"),
    (" Paused", "ContainersPaused"),
    (" Stopped", "ContainersStopped"),
    ("Images", "Images"),
    ("Server Version", "ServerVersion"),
    ("Storage Driver", "Driver"),
)
_LATER: tuple[tuple[str, str], ...] = (
    ("Logging Driver", "LoggingDriver"),
    ("Cgroup Driver", "CgroupDriver"),
    ("Cgroup Version", "CgroupVersion"),
    ("Default Runtime", "DefaultRuntime"),
    ("Init Binary", "InitBinary"),
    ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("CPUs", "NCPU"),
)
_LAST: tuple[tuple[str, str], ...] = (
    ("Name", "Name"),
    ("ID", "ID"),
    ("Data Root", "DockerRootDir"),
    ("Debug Mode", "Debug"),
)
_DEBUG: tuple[tuple[str, str], ...] = (
    (" File Descriptors", "NFd"),
    (" Tasks", "NGoroutines"),
    (" System Time", "SystemTime"),
    (" EventsListeners", "NEventsListener"),
)
_PROXIES: tuple[tuple[str, str], ...] = (
    ("HTTP Proxy", "HttpProxy"),
    ("HTTPS Proxy", "HttpsProxy"),
    ("No Proxy", "NoProxy"),
)


def info_text(info: dict[str, Any]) -> str:
    """What ``info`` prints below "Server"."""
    lines = [f" {label}: {info.get(key)}" for label, key in _LINES if key in info]
    lines += [f"  {name}: {value}" for name, value in info.get("DriverStatus") or ()]
    lines += [f" {label}: {info[key]}" for label, key in _LATER if info.get(key) not in (None, "")]
    if "MemTotal" in info:
        lines.append(f" Total Memory: {size_binary(int(info['MemTotal']))}")
    options = info.get("SecurityOptions") or ()
    if options:
        lines.append(" Security Options:")
        lines += [f"  {option.removeprefix('name=')}" for option in options]
    ours = info.get("Rootless") or {}
    if ours:
        controllers = " ".join(ours.get("CgroupControllers") or ()) or "none"
        lines.append(f" Cgroup Controllers: {controllers}")
        if ours.get("Policy"):
            lines.append(f" Policy: {ours['Policy']}")
    lines += [f" {label}: {_word(info[key])}" for label, key in _LAST if key in info]
    lines += _settings(info)
    return "\n".join(lines) + "\n"


def _settings(info: dict[str, Any]) -> list[str]:
    """What daemon.json says, as far as it says something."""
    lines = []
    if info.get("Debug"):
        lines += [f" {label}: {info[key]}" for label, key in _DEBUG if key in info]
    lines += [f" {label}: {info[key]}" for label, key in _PROXIES if info.get(key)]
    lines += _block("Labels", info.get("Labels"))
    lines.append(f" Experimental: {_word(bool(info.get('ExperimentalBuild')))}")
    registry = info.get("RegistryConfig") or {}
    configs = registry.get("IndexConfigs") or {}
    insecure = [name for name, config in configs.items() if config.get("Secure") is False]
    cidrs = registry.get("InsecureRegistryCIDRs") or []
    lines += _block("Insecure Registries", [*insecure, *cidrs])
    lines += _block("Registry Mirrors", registry.get("Mirrors"))
    lines.append(f" Live Restore Enabled: {_word(bool(info.get('LiveRestoreEnabled')))}")
    pools = info.get("DefaultAddressPools") or ()
    return lines + _block(
        "Default Address Pools", [f" Base: {pool['Base']}, Size: {pool['Size']}" for pool in pools]
    )


def _block(title: str, lines: list[str] | None) -> list[str]:
    return [f" {title}:", *(f"  {line}" for line in lines)] if lines else []


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def run(call: Invocation) -> int:
    """Print what the daemon says about itself and the host."""
    info = call.client.get("/info")
    if call["format"]:
        print_one(call["format"], info)
        return 0
    sys.stdout.write(f"Server:\n{info_text(info)}")
    sys.stdout.flush()
    for warning in info.get("Warnings") or ():
        sys.stderr.write(f"{warning}\n")
    return 0


COMMAND = Command(
    run,
    usage="info [OPTIONS]",
    summary="Display system-wide information",
    aliases="system info, info",
    flags=(("format", "f", STRING, "", INSPECT_FORMAT_HELP),),
    examples="rootless info --format '{{.Driver}}'",
)
