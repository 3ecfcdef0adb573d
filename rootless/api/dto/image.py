"""Images, their history and what removing them did."""

from __future__ import annotations

from rootless.api.dto.config import from_config
from rootless.api.dto.decode import Body
from rootless.api.dto.times import rfc3339
from rootless.model.image import ImageFacts
from rootless.model.records import (
    DistributionInfo,
    ImageDeletion,
    ImageHistoryEntry,
    ImageRecord,
    Progress,
)


class PlatformBody(Body, frozen=True):
    """OCI's platform, as query parameters have it (lower case, unlike the rest of the API)."""

    os: str = ""
    architecture: str = ""
    variant: str = ""


def _descriptor(image: ImageRecord) -> dict[str, object]:
    return {
        "mediaType": image.manifest_type,
        "digest": image.manifest_digest,
        "size": image.manifest_size,
    }


def _manifests(image: ImageRecord) -> list[dict[str, object]]:
    """Of an image for one platform there is one."""
    platform = {"os": image.os, "architecture": image.architecture}
    if image.variant:
        platform["variant"] = image.variant
    return [
        {
            "ID": image.manifest_digest,
            "Descriptor": _descriptor(image),
            "Available": True,
            "Size": {"Content": image.content_size, "Total": image.content_size + image.size},
            "Kind": "image",
            "ImageData": {
                "Platform": platform,
                "Containers": list(image.used_by),
                "Size": {"Unpacked": image.size},
            },
        }
    ]


def summary(image: ImageRecord, *, manifests: bool = False) -> dict[str, object]:
    """One entry of ``GET /images/json``."""
    return {
        **({"Manifests": _manifests(image)} if manifests else {}),
        "Id": image.id,
        "ParentId": image.parent,
        "RepoTags": list(image.repo_tags),
        "RepoDigests": list(image.repo_digests),
        "Created": image.created_ns // 10**9,
        "Size": image.size,
        "SharedSize": image.shared_size,
        "Labels": dict(image.config.labels),
        "Containers": image.containers,
    }


def inspect(image: ImageRecord, *, manifests: bool = False) -> dict[str, object]:
    """The answer of ``GET /images/{name}/json``."""
    body: dict[str, object] = {
        "Id": image.id,
        "RepoTags": list(image.repo_tags),
        "RepoDigests": list(image.repo_digests),
        "Parent": image.parent,
        "Comment": image.comment,
        "Created": rfc3339(image.created_ns),
        "DockerVersion": image.docker_version,
        "Author": image.author,
        "Config": from_config(image.config, image=True),
        "Architecture": image.architecture,
        "Os": image.os,
        "Size": image.size,
        "GraphDriver": {"Name": "overlay", "Data": {}},
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Metadata": {"LastTagTime": rfc3339(image.last_tagged_ns)},
    }
    if image.variant:
        body["Variant"] = image.variant
    if image.manifest_digest:
        body["Descriptor"] = _descriptor(image)
    if manifests:
        body["Manifests"] = _manifests(image)
    return body


def history(entry: ImageHistoryEntry) -> dict[str, object]:
    """One line of ``history``."""
    return {
        "Id": entry.id,
        "Created": entry.created_ns // 10**9,
        "CreatedBy": entry.created_by,
        "Tags": list(entry.tags),
        "Size": entry.size,
        "Comment": entry.comment,
    }


def distribution(found: DistributionInfo) -> dict[str, object]:
    """The answer of ``GET /distribution/{name}/json``."""
    platforms = [
        {"os": os, "architecture": architecture, **({"variant": variant} if variant else {})}
        for os, architecture, variant in found.platforms
    ]
    descriptor = {"mediaType": found.media_type, "digest": found.digest, "size": found.size}
    return {"Descriptor": descriptor, "Platforms": platforms}


def deletion(line: ImageDeletion) -> dict[str, str]:
    """``Untagged`` or ``Deleted``."""
    return {"Untagged": line.untagged} if line.untagged else {"Deleted": line.deleted}


def progress(message: Progress) -> dict[str, object]:
    """One JSON line of a pull, push, load or import.

    The docker CLI draws bars from ``progressDetail``; the text form in ``progress``
    is left to clients, which all make their own.
    """
    if message.error:
        detail: dict[str, object] = {"message": message.error}
        if message.error_code:
            detail["code"] = message.error_code
        return {"errorDetail": detail, "error": message.error}
    body: dict[str, object] = {}
    if message.stream:
        body["stream"] = message.stream
    if message.status:
        body["status"] = message.status
        body["progressDetail"] = {}
    if message.total or message.current:
        counts = {"current": message.current}
        if message.total:
            counts["total"] = message.total
        body["progressDetail"] = counts
    if message.id:
        body["id"] = message.id
    if message.aux:
        body["aux"] = {
            key: int(value) if key == "Size" and value.isdigit() else value
            for key, value in message.aux
        }
    return body


def facts(image: ImageFacts) -> dict[str, object]:
    """``GET /rootless/images/{name}``; what is not known is null."""
    return {
        "Name": image.name,
        "CreatedNano": image.created_ns,
        "Size": image.size,
        "Vouchers": [
            {"Key": each.key, "Digest": each.digest, "Repository": each.repository}
            for each in image.vouchers or ()
        ],
        "SetuidFiles": list(image.setuid or ()),
    }
