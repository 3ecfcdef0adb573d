"""An image is kept for one platform: whoever names another hears so instead of getting this one."""

from __future__ import annotations

import json

import pytest

from tests.unit.api.conftest import Served

_ARM = "%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22arm64%22%7D"
_HERE = "%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22amd64%22%7D"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/images/busybox/json?platform={}"),
        ("GET", "/images/busybox/history?platform={}"),
        ("GET", "/images/get?names=busybox&platform={}"),
        ("POST", "/images/busybox/push?tag=latest&platform={}"),
        ("DELETE", "/images/busybox?platforms={}"),
    ],
)
async def test_another_platform_is_not_found(served: Served, method: str, path: str) -> None:
    answer = await served.request(method, path.format(_ARM))
    assert answer.status == 404
    message = json.loads(answer.body)["message"]
    assert "does not provide the platform linux/arm64: it is for linux/amd64" in message
    assert (await served.request(method, path.format(_HERE))).status == 200
    for wrong in ("arm64", "%7B%22os%22%3A1%7D", "%7B%7D"):
        assert (await served.request(method, path.format(wrong))).status == 400


async def test_load_passes_the_platform_on(served: Served) -> None:
    await served.request("POST", f"/images/load?platform={_ARM}", b"x")
    assert served.engine.images.platform == "linux/arm64"
    await served.request("POST", "/images/load", b"x")
    assert served.engine.images.platform == ""
