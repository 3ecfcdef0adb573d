"""What older API versions say and hear differently.

After Docker's "API version history" and what its daemon does for such clients. One
thing differs on purpose: a read-only bind of a client before 1.44 is read-only with
all that is mounted below it, as for the others.
"""

from __future__ import annotations

from dataclasses import replace

from rootless.errors import InvalidInput
from rootless.model.request import ContainerRequest, HostConfig, MountRequest

Version = tuple[int, int]
DEPRECATED_MAC = (
    "The container-wide MacAddress field is now deprecated. It should be specified in "
    "EndpointsConfig instead."
)


def request_of(request: ContainerRequest, version: Version) -> ContainerRequest:
    """A create request with what its version did not have left out, or refused as in Docker."""
    host, config = request.host, request.config
    if version < (1, 25):
        # Such clients remove the container themselves.
        host = replace(host, auto_remove=False)
    if version < (1, 40):
        # Any container's IPC could be joined, and a limit of processes was no field of theirs.
        resources = replace(host.resources, pids_limit=None)
        host = replace(host, resources=resources, ipc_mode=host.ipc_mode or "shareable")
    if version < (1, 42):
        host = replace(host, console_size=(0, 0))
    if version < (1, 43):
        host = replace(host, annotations=())
    if version < (1, 44):
        if config.healthcheck is not None and config.healthcheck.start_interval:
            config = replace(config, healthcheck=replace(config.healthcheck, start_interval=0))
        if len(request.endpoints) > 1:
            names = ", ".join(endpoint.network for endpoint in request.endpoints)
            raise InvalidInput(
                f"Container cannot be created with multiple network endpoints: {names}"
            )
    host = _mounts(host, version)
    return replace(request, host=host, config=config)


def _mounts(host: HostConfig, version: Version) -> HostConfig:
    if version >= (1, 48):
        return host
    return replace(host, mounts=tuple(_mount(mount, version) for mount in host.mounts))


def _mount(mount: MountRequest, version: Version) -> MountRequest:
    if mount.type == "image":
        raise InvalidInput('Mount type "Image" needs API v1.48 or newer')
    if version < (1, 45) and mount.type == "volume" and mount.subpath:
        raise InvalidInput("VolumeOptions.Subpath needs API v1.45 or newer")
    if version < (1, 44) and mount.read_only_force_recursive:
        raise InvalidInput("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
    if version < (1, 40):
        mount = replace(mount, non_recursive=False)
    return mount


def image_summary(body: dict[str, object], version: Version) -> dict[str, object]:
    """One entry of ``GET /images/json``."""
    if version < (1, 43) and not body["RepoTags"] and not body["RepoDigests"]:
        body |= {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}
    if version < (1, 51):
        body["Containers"] = -1
    return image_size(body, version)


def image_size(body: dict[str, object], version: Version) -> dict[str, object]:
    """Any description of an image with a size."""
    if version < (1, 48):
        body.pop("Descriptor", None)
    if version < (1, 44):
        body["VirtualSize"] = body["Size"]
    return body


def container(body: dict[str, object], version: Version) -> dict[str, object]:
    """A container's inspect."""
    if version < (1, 48):
        body.pop("ImageManifestDescriptor", None)
    return body


def info(body: dict[str, object], version: Version) -> dict[str, object]:
    """The engine's information."""
    if version < (1, 50):
        body |= {"BridgeNfIptables": False, "BridgeNfIp6tables": False}
    if version < (1, 49):
        for name in ("ContainerdCommit", "RuncCommit", "InitCommit"):
            body[name] = {"ID": "", "Expected": ""}
    if version < (1, 25):
        options = body["SecurityOptions"]
        assert isinstance(options, list)
        body["SecurityOptions"] = [text.partition(",")[0].removeprefix("name=") for text in options]
    return body
