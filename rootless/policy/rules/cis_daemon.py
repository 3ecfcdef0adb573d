"""The daemon checks of the CIS Docker Benchmark that mean something for this engine.

They are judged on what the daemon tells of itself (``check-policy --daemon``), not on a
container; in admission they find nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from rootless.model.decision import Severity
from rootless.policy.rules.base import Case, Rule, Violation

Info = Mapping[str, Any]
_Find = Callable[[Info, Info], str]


@dataclass(frozen=True, slots=True)
class DaemonCheck:
    """``find`` gets ``/info`` and daemon.json, and tells what is wrong, '' when nothing is.

    ``info`` and ``key`` are where to look in the one and in the other.
    """

    number: str
    title: str
    find: _Find
    info: tuple[str, ...]
    key: str
    rule: Rule


def _options(info: Info) -> set[str]:
    found = info.get("SecurityOptions")
    return {str(item).partition(",")[0] for item in found} if isinstance(found, list) else set()


def _lacks(option: str, what: str) -> _Find:
    return lambda info, _: "" if f"name={option}" in _options(info) else what


def _registries(info: Info, _: Info) -> str:
    config = info.get("RegistryConfig") or {}
    cidrs = [c for c in config.get("InsecureRegistryCIDRs") or () if not _loopback(c)]
    hosts = [n for n, c in (config.get("IndexConfigs") or {}).items() if not c.get("Secure")]
    found = ", ".join([*map(str, cidrs), *hosts])
    return f"registries without TLS are allowed: {found}" if found else ""


def _loopback(cidr: object) -> bool:
    try:
        return ip_network(str(cidr)).is_loopback
    except ValueError:
        return False


def _tls(_: Info, config: Info) -> str:
    hosts = config.get("hosts")
    tcp = [h for h in hosts if str(h).startswith("tcp")] if isinstance(hosts, list) else []
    return f"{', '.join(tcp)} without tlsverify" if tcp and not config.get("tlsverify") else ""


def _level(info: Info, config: Info) -> str:
    level = config.get("log-level", "info")
    if info.get("Debug") or config.get("debug"):
        return "debugging is on"
    return "" if level == "info" else f"it is {level}"


_ROWS: tuple[tuple[str, Severity, str, str, _Find, tuple[str, ...], str], ...] = (
    ("2.1", "critical", "The daemon does not run as root.", "run it as an ordinary user",
     _lacks("rootless", "the daemon runs as root"), ("SecurityOptions",), ""),
    ("2.2", "medium", "Containers do not reach each other by default.",
     "leave icc out of daemon.json",
     lambda _, c: "those of the default network do" if c.get("icc") else "",
     ("Plugins", "Network"), "icc"),
    ("2.3", "low", "The daemon logs at level info.", "leave log-level and debug out",
     _level, ("Debug",), "log-level"),
    ("2.5", "high", "No registry is used without TLS.", "leave insecure-registries out",
     _registries, ("RegistryConfig",), "insecure-registries"),
    ("2.7", "critical", "TCP needs a client certificate.", "set tlsverify",
     _tls, (), "hosts"),
    ("2.8", "low", "Default limits of processes are set.", "set default-ulimits",
     lambda _, c: "" if c.get("default-ulimits") else "no default is set", (), "default-ulimits"),
    ("2.9", "high", "Containers have a user namespace.", "run this engine",
     _lacks("userns", "there is none"), ("SecurityOptions",), ""),
    ("2.10", "medium", "The default cgroup is used.", "leave cgroup-parent out",
     lambda _, c: f"it is {c['cgroup-parent']}" if c.get("cgroup-parent") else "", (),
     "cgroup-parent"),
    ("2.13", "low", "Logs go to another machine.", "set log-driver to syslog or journald",
     lambda i, _: f"{i.get('LoggingDriver')} keeps logs on this machine"
     if i.get("LoggingDriver") in {"json-file", "local", "none"} else "",
     ("LoggingDriver",), "log-driver"),
    ("2.14", "high", "Containers cannot gain privileges.", "leave no-new-privileges out, or true",
     _lacks("no-new-privileges", "the default is off"), ("SecurityOptions",), "no-new-privileges"),
    ("2.15", "low", "Containers outlive the daemon.", "leave live-restore out, or true",
     lambda i, _: "" if i.get("LiveRestoreEnabled") else "live restore is off",
     ("LiveRestoreEnabled",), "live-restore"),
    ("2.18", "low", "Nothing experimental is on.", "leave experimental out",
     lambda i, _: "it is on" if i.get("ExperimentalBuild") else "",
     ("ExperimentalBuild",), "experimental"),
)  # fmt: skip


def _nothing(title: str) -> Callable[[Case], Iterator[Violation]]:
    def check(_: Case) -> Iterator[Violation]:
        yield from ()

    check.__doc__ = f"{title} Judged by check-policy --daemon."
    return check


CHECKS = tuple(
    DaemonCheck(
        number,
        title,
        find,
        info,
        key,
        Rule(
            f"cis-docker.{number}",
            severity,
            (f"CIS {number}",),
            fix,
            _nothing(title),
            keys=("cisDocker.require",),
        ),
    )
    for number, severity, title, fix, find, info, key in _ROWS
)
RULES = tuple(check.rule for check in CHECKS)
