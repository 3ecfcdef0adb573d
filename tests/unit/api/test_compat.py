"""Older API versions get what Docker gives them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from rootless.model.event import Event
from tests.unit.api.conftest import Served


async def create(served: Served, version: str, **body: Any) -> tuple[int, Any]:
    body.setdefault("Image", "busybox")
    answer = await served.request("POST", f"/v{version}/containers/create?platform=x", body)
    return answer.status, answer.json()


@pytest.mark.parametrize(
    ("older", "version", "host", "message"),
    [
        (
            "1.47",
            "1.48",
            {"Mounts": [{"Type": "image", "Source": "busybox", "Target": "/i"}]},
            'Mount type "Image" needs API v1.48 or newer',
        ),
        (
            "1.44",
            "1.45",
            {"Mounts": [{"Type": "volume", "Target": "/v", "VolumeOptions": {"Subpath": "a"}}]},
            "VolumeOptions.Subpath needs API v1.45 or newer",
        ),
        (
            "1.43",
            "1.44",
            {
                "Mounts": [
                    {
                        "Type": "bind",
                        "Source": "/tmp",
                        "Target": "/v",
                        "ReadOnly": True,
                        "BindOptions": {"ReadOnlyForceRecursive": True},
                    }
                ]
            },
            "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
        ),
    ],
)
async def test_mounts_that_came_later(
    served: Served, older: str, version: str, host: dict[str, Any], message: str
) -> None:
    assert await create(served, older, HostConfig=host) == (400, {"message": message})
    assert (await create(served, version, HostConfig=host))[0] == 201


async def test_networks_of_a_new_container(served: Served) -> None:
    body = {"EndpointsConfig": {"a": {}, "b": {}}}
    status, found = await create(served, "1.43", NetworkingConfig=body)
    message = "Container cannot be created with multiple network endpoints: a, b"
    assert (status, found["message"]) == (400, message)
    assert (await create(served, "1.44", NetworkingConfig=body))[0] == 201


async def test_fields_that_came_later(served: Served) -> None:
    body = {
        "Healthcheck": {"Test": ["CMD", "x"], "StartInterval": 10**9},
        "HostConfig": {"Annotations": {"a": "b"}, "AutoRemove": True, "ConsoleSize": [4, 5]},
    }

    async def made(version: str) -> tuple[bool, bool, bool, bool]:
        status, found = await create(served, version, **body)
        assert status == 201
        record = served.engine.containers.find(found["Id"])
        request = record.spec.request
        check = request.config.healthcheck
        assert check is not None
        return (
            request.host.auto_remove,
            any(request.host.console_size),
            bool(request.host.annotations),
            bool(check.start_interval),
        )

    assert await made("1.24") == (False, False, False, False)
    assert await made("1.25") == (True, False, False, False)
    assert await made("1.42") == (True, True, False, False)
    assert await made("1.43") == (True, True, True, False)
    assert await made("1.44") == (True, True, True, True)


async def test_a_mac_address_of_the_whole_container(served: Served) -> None:
    _, found = await create(served, "1.44", MacAddress="92:d0:c6:0a:29:33")
    assert found["Warnings"] == [
        "The container-wide MacAddress field is now deprecated. It should be specified in "
        "EndpointsConfig instead."
    ]
    _, found = await create(served, "1.43", MacAddress="92:d0:c6:0a:29:33")
    assert found["Warnings"] == []


async def test_parameters_that_came_later(served: Served) -> None:
    _, found = await create(served, "1.40")
    assert found["Warnings"] == ["parameter platform needs API v1.41 and was ignored"]
    assert served.engine.containers.find(found["Id"]).spec.request.platform == ""
    _, found = await create(served, "1.41")
    assert served.engine.containers.find(found["Id"]).spec.request.platform == "x"
    wrong = "/system/df?type=nothing"
    assert (await served.request("GET", f"/v1.41{wrong}")).status == 200
    assert (await served.request("GET", f"/v1.42{wrong}")).status == 400


async def test_images(served: Served) -> None:
    async def listed(version: str) -> dict[str, Any]:
        found = await served.json("GET", f"/v{version}/images/json")
        return dict(found[0])

    old, new = await listed("1.43"), await listed("1.44")
    assert old["VirtualSize"] == new["Size"]
    assert "VirtualSize" not in new
    images = served.engine.images
    images.image = replace(images.image, containers=3)
    assert ((await listed("1.50"))["Containers"], (await listed("1.51"))["Containers"]) == (-1, 3)
    usage = await served.json("GET", "/v1.43/system/df")
    assert usage["Images"][0]["VirtualSize"] == new["Size"]
    for version in ("1.43", "1.44"):
        found = await served.json("GET", f"/v{version}/images/busybox/json")
        assert ("VirtualSize" in found) == (version == "1.43")


async def test_images_without_a_name(served: Served) -> None:
    images = served.engine.images
    images.image = replace(images.image, repo_tags=(), repo_digests=())
    found = await served.json("GET", "/v1.42/images/json")
    assert (found[0]["RepoTags"], found[0]["RepoDigests"]) == (["<none>:<none>"], ["<none>@<none>"])
    found = await served.json("GET", "/v1.43/images/json")
    assert (found[0]["RepoTags"], found[0]["RepoDigests"]) == ([], [])


async def test_info(served: Served) -> None:
    old, new = await served.json("GET", "/v1.24/info"), await served.json("GET", "/info")
    assert (old["BridgeNfIptables"], "BridgeNfIptables" in new) == (False, False)
    assert (old["InitCommit"], new["InitCommit"]) == ({"ID": "", "Expected": ""}, {"ID": ""})
    assert "seccomp" in old["SecurityOptions"]
    assert any(text.startswith("name=seccomp") for text in new["SecurityOptions"])


async def test_events_of_images_made_here(served: Served) -> None:
    served.engine.system.past = [Event("image", "create", "sha256:1", (), 10**18)]
    assert (await served.request("GET", "/v1.45/events?since=1&until=2")).body == b""
    assert b'"create"' in (await served.request("GET", "/v1.46/events?since=1&until=2")).body


async def test_a_wait_before_1_30_has_its_head_at_the_end(served: Served) -> None:
    ref = await served.create("silent")
    await served.engine.containers.attach(None, ref)  # type: ignore[arg-type]  # the engine in its place asks nobody
    await served.json("POST", f"/containers/{ref}/start", status=204)
    async with await served.connect() as client:
        client.send("POST", f"/v1.29/containers/{ref}/wait?condition=nonsense")
        await served.engine.registered.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)
        await served.json("POST", f"/containers/{ref}/kill", status=204)
        answer = await client.read_answer()
    assert "content-length" in answer.headers
    assert answer.json().keys() >= {"StatusCode"}
