"""Capabilities, seccomp, security options, masked paths, user namespace mode (pure)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rootless.errors import HostUnsupported, InvalidInput
from rootless.linux.process import CAPABILITIES
from rootless.model.defaults import DEFAULT_CAPABILITIES, MASKED_PATHS, READONLY_PATHS
from rootless.model.request import HostConfig
from rootless.model.spec import DeviceSpec, PrivilegesSpec, SeccompSpec

_AUTO = re.compile(r"auto(?::size=(?P<size>[0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class SecurityOptions:
    """``security_opt`` taken apart; ``None`` where nothing was said."""

    no_new_privileges: bool | None = None
    seccomp: str | None = None
    seccomp_log: bool = False
    unmasked: bool = False
    labels: tuple[str, ...] = ()


def parse_security_opt(options: Sequence[str]) -> SecurityOptions:
    """Docker's ``--security-opt`` values (both ``key=value`` and the old ``key:value``)."""
    nnp: bool | None = None
    seccomp: str | None = None
    log = unmasked = False
    labels: list[str] = []
    for option in options:
        key, value = _split(option)
        if key == "no-new-privileges":
            nnp = _bool(option, value)
        elif key == "seccomp":
            if not value:
                raise InvalidInput(
                    f'invalid --security-opt: "{option}"',
                    hint="seccomp=FILE, seccomp=builtin, seccomp=unconfined",
                )
            seccomp = value
        elif key == "seccomp-log":
            log = _bool(option, value)
        elif key == "systempaths" and value == "unconfined":
            unmasked = True
        elif key == "label":
            labels.append(value)
        elif key == "apparmor":
            _check_apparmor(option, value)
        else:
            raise InvalidInput(
                f'invalid --security-opt: "{option[:80]}"',
                hint="known: seccomp=, no-new-privileges, label=, systempaths=unconfined, "
                "seccomp-log",
            )
    return SecurityOptions(nnp, seccomp, log, unmasked, tuple(labels))


def _split(option: str) -> tuple[str, str]:
    equals, colon = option.find("="), option.find(":")
    # A seccomp profile's text has both: the first of them separates.
    places = [p for p in (equals, colon) if p >= 0]
    if not places:
        return option, ""
    at = min(places)
    return option[:at], option[at + 1 :]


def _bool(option: str, value: str) -> bool:
    if value.lower() in ("", "true", "1", "t"):
        return True
    if value.lower() in ("false", "0", "f"):
        return False
    raise InvalidInput(f'invalid --security-opt: "{option}"', hint="write true or false")


def _check_apparmor(option: str, value: str) -> None:
    if value == "unconfined":
        return
    raise HostUnsupported(
        f"security option {option!r}: an unprivileged engine cannot set AppArmor profiles",
        hint="seccomp, Landlock and the user namespace confine the container instead",
    )


def resolve_seccomp(
    options: SecurityOptions, *, privileged: bool, default_profile: str
) -> SeccompSpec:
    """Which filter runs. ``--privileged`` means unconfined unless a profile is named."""
    wanted = options.seccomp
    if wanted == "unconfined" or (wanted is None and privileged):
        if options.seccomp_log and wanted == "unconfined":
            raise InvalidInput("seccomp-log needs a seccomp profile: unconfined denies nothing")
        return SeccompSpec("unconfined", "")
    if wanted in (None, "builtin", "default", ""):
        return SeccompSpec("default", default_profile, log=options.seccomp_log)
    assert wanted is not None
    try:
        parsed = json.loads(wanted)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"Decoding seccomp profile failed: {error}",
            hint="the API takes the profile's JSON text, the command line a file's path",
        ) from None
    if not isinstance(parsed, dict) or "defaultAction" not in parsed:
        raise InvalidInput("Decoding seccomp profile failed: no defaultAction in it")
    return SeccompSpec("custom", wanted, log=options.seccomp_log)


def resolve_privileges(
    host: HostConfig, options: SecurityOptions, *, no_new_privileges: bool
) -> PrivilegesSpec:
    """Capabilities by Docker's ``--cap-add``/``--cap-drop`` rules over our smaller default."""
    everything = frozenset(CAPABILITIES)
    if host.privileged:
        granted = everything
    else:
        granted = frozenset(DEFAULT_CAPABILITIES)
        added, dropped = _names(host.cap_add), _names(host.cap_drop)
        if "ALL" in added:
            granted = everything - dropped
        elif "ALL" in dropped:
            granted = added - {"ALL"}
        else:
            granted = (granted - dropped) | added
    asked = options.no_new_privileges
    # Privileged processes expect setuid programs to work, as under Docker.
    default = no_new_privileges and not host.privileged
    return PrivilegesSpec(
        capabilities=tuple(name for name in CAPABILITIES if name in granted),
        no_new_privileges=default if asked is None else asked,
        privileged=host.privileged,
    )


def _names(values: Sequence[str]) -> frozenset[str]:
    names = set()
    for value in values:
        name = value.upper()
        if name != "ALL" and not name.startswith("CAP_"):
            name = f"CAP_{name}"
        if name != "ALL" and name not in CAPABILITIES:
            raise InvalidInput(f'invalid capability: "{value}"')
        names.add(name)
    return frozenset(names)


def resolve_paths(
    host: HostConfig, options: SecurityOptions
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Masked and read-only paths; nothing of either for privileged and systempaths=unconfined."""
    masked: tuple[str, ...] = MASKED_PATHS
    readonly: tuple[str, ...] = READONLY_PATHS
    if host.privileged or options.unmasked:
        masked = readonly = ()
    if host.masked_paths is not None:
        masked = host.masked_paths
    if host.readonly_paths is not None:
        readonly = host.readonly_paths
    for path in (*masked, *readonly):
        if not path.startswith("/"):
            raise InvalidInput(f"masked and read-only paths must be absolute: {path!r}")
    return masked, readonly


def parse_userns(mode: str, *, default: str) -> tuple[str, int]:
    """('shared' or 'auto', size or 0) from ``userns_mode``."""
    mode = mode or default
    if mode in ("shared", "private"):
        return "shared", 0
    match = _AUTO.fullmatch(mode)
    if match is not None:
        return "auto", int(match["size"] or 0)
    if mode == "host":
        raise InvalidInput(
            "userns mode 'host' is not possible: container root would be you",
            hint="shared (the default) or auto",
        )
    raise InvalidInput(f"invalid userns mode: {mode!r}", hint="shared, auto or auto:size=N")


def resolve_devices(host: HostConfig) -> tuple[DeviceSpec, ...]:
    """Host device nodes as they are bound; the kernel checks the user's own rights on open."""
    devices = []
    for device in host.devices:
        source, target = device.path_on_host, device.path_in_container or device.path_on_host
        for path in (source, target):
            if not path.startswith("/") or ".." in path.split("/"):
                raise InvalidInput(f"invalid device path: {path!r}")
        if not device.permissions or not set(device.permissions) <= set("rwm"):
            raise InvalidInput(f"invalid device mode: {device.permissions}")
        if not os.path.exists(source):
            raise InvalidInput(
                f'error gathering device information while adding custom device "{source}": '
                "no such file or directory"
            )
        devices.append(DeviceSpec(source, target, device.permissions))
    return tuple(devices)
