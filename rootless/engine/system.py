"""The engine itself: info, version, disk usage, events, logins."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

import rootless
from rootless.engine.authorisation import verdict
from rootless.engine.core import Core
from rootless.engine.filters import Filters
from rootless.engine.ownership import of_unit
from rootless.engine.settings import EngineSettings
from rootless.engine.stats import memory_total
from rootless.errors import InvalidInput
from rootless.model.certificate import Renewed
from rootless.model.decision import Decision
from rootless.model.event import Event
from rootless.model.facts import HostFacts
from rootless.model.identity import Identity
from rootless.model.records import DiskUsage, RegistryAuth, SystemInfo, VersionInfo
from rootless.policy.matching import Subject
from rootless.storage import drivers

if TYPE_CHECKING:
    from rootless.engine.containers import Containers
    from rootless.engine.images import Images
    from rootless.engine.volumes import Volumes
    from rootless.pki.online import OnlineAuthority

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class System:
    """See :class:`rootless.engine.interface.System`."""

    def __init__(
        self,
        core: Core,
        containers: Containers,
        images: Images,
        volumes: Volumes,
        authority: OnlineAuthority | None = None,
    ) -> None:
        self._authority = authority
        self._core = core
        self._containers = containers
        self._images = images
        self._volumes = volumes

    async def ping(self) -> Literal["OK"]:
        """The engine answers."""
        return "OK"

    async def can(
        self, identity: Identity, verb: str, target: str = "", *, asked: str = ""
    ) -> tuple[Identity, Decision]:
        """See :func:`rootless.engine.authorisation.verdict`."""
        return verdict(self._core, identity, verb, target, asked)

    async def renew(self, identity: Identity, request: str) -> Renewed:
        """See :class:`rootless.engine.interface.System`."""
        self._core.policy.admit_action(identity, "certificate.renew")
        if self._authority is None:
            raise InvalidInput(
                "this engine renews no certificates: it has no authority",
                hint="ask whoever issued yours; rootlessd --pki-dir gives it one",
            )
        if identity.uri is None or identity.fingerprint is None:
            raise InvalidInput(
                f"{identity.key} has no certificate of `rootless pki` to renew",
                hint="connect with one over TLS: tcp://HOST:2376",
            )
        renew = partial(self._authority.renew, identity.fingerprint, identity.uri, request)
        return await asyncio.to_thread(renew)

    async def info(self, identity: Identity) -> SystemInfo:
        """What the engine is and what the host can do."""
        self._core.policy.admit_action(identity, "system.info")
        core, facts, settings = self._core, self._core.facts, self._core.settings
        statuses = [
            unit.record.state.status
            for unit in core.registry
            if core.policy.sees(identity, of_unit(unit))
        ]
        release = os_release()
        running = sum(status in ("running", "restarting") for status in statuses)
        paused = statuses.count("paused")
        driver = drivers.choose(facts, settings.storage_driver)
        proxies = getproxies_environment()
        proxies.update({key.removesuffix("-proxy"): value for key, value in settings.proxies})
        return SystemInfo(
            id=settings.engine_id,
            name=socket.gethostname(),
            server_version=rootless.__version__,
            data_root=str(settings.data_root),
            exec_root=str(settings.exec_root),
            storage_driver=driver.name,
            containers=len(statuses),
            running=running,
            paused=paused,
            stopped=len(statuses) - running - paused,
            images=len(self._images.index),
            kernel_version=platform.release(),
            operating_system=release.get("PRETTY_NAME", "Linux"),
            os_version=release.get("VERSION_ID", ""),
            architecture=facts.arch,
            cpus=os.cpu_count() or 1,
            memory_total=memory_total(),
            cgroup_version=facts.cgroup.version,
            cgroup_controllers=facts.cgroup.controllers if facts.cgroup.delegated else (),
            security_options=security_options(settings),
            logging_driver=settings.log_driver,
            debug=settings.debug,
            labels=settings.labels,
            registry_mirrors=settings.registry_mirrors,
            insecure_registries=settings.insecure_registries,
            init_binary=settings.init_path or facts.init_binary,
            policy=core.policy.name,
            warnings=(
                *_settings_warnings(settings),
                *warnings_of(facts, labels=settings.selinux_enabled),
            ),
            driver_status=(("Native Overlay", str(facts.native_overlay).lower()),),
            events_listeners=core.events.listeners,
            descriptors=len(os.listdir("/proc/self/fd")),
            tasks=threading.active_count() + len(asyncio.all_tasks()),
            experimental=settings.experimental,
            live_restore=settings.live_restore,
            address_pools=settings.address_pools,
            http_proxy=without_password(proxies.get("http", "")),
            https_proxy=without_password(proxies.get("https", "")),
            no_proxy=proxies.get("no", ""),
        )

    async def version(self, identity: Identity) -> VersionInfo:
        """Versions of the engine and what it is built on."""
        self._core.policy.admit_action(identity, "system.version")
        return VersionInfo(
            version=rootless.__version__,
            os="linux",
            architecture=_ARCHITECTURES.get(self._core.facts.arch, self._core.facts.arch),
            kernel_version=platform.release(),
            components=(
                ("Engine", rootless.__version__, ()),
                ("Python", platform.python_version(), ()),
                ("SQLite", sqlite3.sqlite_version, ()),
            ),
        )

    async def disk_usage(self, identity: Identity) -> DiskUsage:
        """What takes space."""
        self._core.policy.admit_action(identity, "system.df")
        core = self._core
        containers = await self._containers.list(identity, filters={}, all=True, size=True)
        images = await self._images.list(identity, filters={}, shared_size=True)
        volumes = [
            replace(volume, size=await self._volumes.size(volume.name))
            for volume in await self._volumes.list(identity, filters={})
        ]
        counts: dict[str, int] = {}
        for view in containers:
            image_id = view.record.spec.image.id
            counts[image_id] = counts.get(image_id, 0) + 1
        sizes = {layer.meta.diff_id: layer.meta.size for layer in core.layers.all()}
        return DiskUsage(
            layers_size=sum(sizes.values()),
            images=tuple(replace(i, containers=counts.get(i.id, 0)) for i in images),
            containers=tuple(containers),
            volumes=tuple(volumes),
        )

    async def events(
        self, identity: Identity, *, filters: Filters, since_ns: int = 0, until_ns: int = 0
    ) -> AsyncIterator[Event]:
        """What happens."""
        self._core.policy.admit_action(identity, "system.events")
        policy = self._core.policy

        def seen(event: Event) -> bool:
            if event.owners is None:
                return True
            attributes = dict(event.attributes)
            subject = Subject(
                name=attributes.get("name", ""),
                labels=attributes,
                owners=frozenset(event.owners),
            )
            return policy.lists(identity, "system.events", subject)

        return self._core.events.subscribe(filters, since_ns=since_ns, until_ns=until_ns, seen=seen)

    async def auth(self, identity: Identity, auth: RegistryAuth) -> tuple[str, str]:
        """Whether credentials are right."""
        self._core.policy.admit_action(identity, "image.login", auth.server_address)
        if not (auth.username or auth.identity_token):
            raise InvalidInput("no username given")
        return await self._images.transfers.check_login(auth)


def os_release() -> dict[str, str]:
    """The host's os-release(5)."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def without_password(url: str) -> str:
    """A proxy's URL with Docker's mask for user and password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""  # one of the environment's that nothing can use
    if parts.username is None and parts.password is None:
        return url
    return parts._replace(netloc=f"xxxxx:xxxxx@{parts.netloc.rpartition('@')[2]}").geturl()


def _settings_warnings(settings: EngineSettings) -> tuple[str, ...]:
    if not settings.seccomp_profile:
        return ()
    return ("WARNING: daemon is not using the default seccomp profile",)


def security_options(settings: EngineSettings) -> tuple[str, ...]:
    """What holds for a container that asks for nothing, in Docker's words.

    AppArmor is not among them even where the host runs it: this engine sets no profiles.
    """
    found = [
        f"name=seccomp,profile={settings.seccomp_profile or 'builtin'}",
        "name=rootless",
        "name=cgroupns",
        "name=userns",
    ]
    if settings.selinux_enabled:
        found.append("name=selinux")
    if settings.no_new_privileges:
        found.append("name=no-new-privileges")
    return tuple(found)


_CONTROLLERS = {
    "memory": "--memory, and stats sums up what the processes have mapped",
    "cpu": "--cpus",
    "io": "--device-read-bps, and stats shows no block I/O",
    "cpuset": "--cpuset-cpus",
}
"""What a container cannot be given without the controller. ``pids`` is kept by an rlimit."""


def warnings_of(facts: HostFacts, *, labels: bool = False) -> tuple[str, ...]:
    """What this host lacks, and what that costs; ``labels``: containers get SELinux labels."""
    found = []
    if not facts.cgroup.delegated:
        found.append(
            "no cgroup is delegated to this user: no memory, cpu or io limit and no "
            "pause, and stats sums up living processes (rootless system service install)"
        )
    else:
        found += [
            f"the cgroup controller {name} is not delegated: no {flag} (sudo rootless setup)"
            for name, flag in _CONTROLLERS.items()
            if name not in facts.cgroup.controllers
        ]
    if facts.selinux and not labels:
        found.append(
            "SELinux runs here, but containers get no labels of their own: set selinux-enabled"
        )
    if not facts.native_overlay:
        found.append("no native overlay in user namespaces: file access is slower")
    if not facts.slirp4netns:
        found.append("slirp4netns is missing: containers have no network")
    if not facts.fuse_overlayfs:
        found.append("fuse-overlayfs is missing: --userns=auto is not possible")
    return tuple(f"WARNING: {text}" for text in found)
