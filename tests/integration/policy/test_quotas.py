"""Quotas on a running engine: nothing slips through, also not two at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.policy.forced import policy
from tests.support.api import IMAGE, Api
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
BODY = {"Image": IMAGE, "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": "none"}}
AT_ONCE = 8


def at_once(api: Api, *requests: tuple[str, object]) -> list[tuple[int, object]]:
    """The answers to POSTs that are sent together."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda request: api("POST", *request), requests))


def test_only_so_many_containers_can_be_made_at_once(engine: Engine, api: Api) -> None:
    with policy(engine, "{quotas: {maximumContainers: 3}}"):
        answers = at_once(api, *[("/containers/create", BODY)] * AT_ONCE)
        assert sorted(status for status, _ in answers) == [201] * 3 + [403] * (AT_ONCE - 3)
        status, message = api.refused("POST", "/containers/create", BODY)
        assert status == 403
        assert "quotas.containers: Containers=4: " in message
        api.remove(engine.containers()[0])
        api.ok("POST", "/containers/create", BODY)
    api.remove(*engine.containers())


def test_only_so_many_run_at_once(engine: Engine, api: Api) -> None:
    made = [api.create("sleep", "600") for _ in range(AT_ONCE)]
    starts = [(f"/containers/{one}/start", None) for one in made]
    with policy(engine, "{quotas: {maximumRunning: 2}}"):
        answers = at_once(api, *starts)
        assert sorted(status for status, _ in answers) == [204] * 2 + [403] * (AT_ONCE - 2)
        running = engine.ok("ps", "--quiet", "--no-trunc").split()
        assert len(running) == 2
        stopped = next(one for one in made if one not in running)
        status, message = api.refused("POST", f"/containers/{stopped}/start")
        assert (status, "quotas.running" in message) == (403, True)
        assert "quotas.running" in api.state(stopped)["Error"]
        # A restart is no further one, and what ended makes room.
        api.ok("POST", f"/containers/{running[0]}/restart", t=0)
        api.ok("POST", f"/containers/{running[0]}/kill")
        api.ok("POST", f"/containers/{stopped}/start")
    api.remove(*made)


def test_a_start_that_fails_makes_room_again(engine: Engine, api: Api) -> None:
    bad = api.create("/absent")
    good = api.create("sleep", "600")
    with policy(engine, "{quotas: {maximumRunning: 1}}"):
        assert api.refused("POST", f"/containers/{bad}/start")[0] == 400
        api.ok("POST", f"/containers/{good}/start")
    api.remove(bad, good)


def test_what_has_no_limit_is_more_than_every_quota(engine: Engine, api: Api) -> None:
    with policy(engine, "{quotas: {maximumMemory: 1g, maximumCpus: 2}}"):
        status, message = api.refused("POST", "/containers/create", BODY)
        assert status == 403
        assert "quotas.memory: HostConfig.Memory=unlimited: " in message
        assert "quotas.cpus: HostConfig.NanoCpus=unlimited: " in message
    # It was made before: it does not start now.
    made = api.create("sleep", "600")
    with policy(engine, "{quotas: {maximumMemory: 1g}}"):
        assert "quotas.memory" in api.refused("POST", f"/containers/{made}/start")[1]
    api.remove(made)


def test_disk_is_what_containers_wrote_and_volumes_hold(engine: Engine, api: Api) -> None:
    fill = ("sh", "-c", "head -c 3000000 /dev/zero > /v/file; head -c 3000000 /dev/zero > /file")
    bind = {"NetworkMode": "none", "Binds": ["filled:/v"]}
    made = api.run(*fill, HostConfig=bind)
    assert api.ok("POST", f"/containers/{made}/wait")["StatusCode"] == 0
    with policy(engine, "{quotas: {maximumDisk: 5000000}}"):
        status, message = api.refused("POST", "/containers/create", BODY)
        assert (status, "quotas.disk: Size=5.7" in message) == (403, True), message
        assert "quotas.disk" in api.refused("POST", f"/containers/{made}/start")[1]
    with policy(engine, "{quotas: {maximumDisk: 6100000}}"):
        api.remove(api.create("true"))
    with policy(engine, "{quotas: {maximumDisk: 5000000}}"):
        api.remove(made)
        api.remove(api.create("true"))
    api.ok("DELETE", "/volumes/filled")


def test_a_dry_run_says_the_same(engine: Engine) -> None:
    with policy(engine, "{quotas: {maximumContainers: 0}}"):
        done = engine.run("run", "--dry-run", IMAGE, "true")
        assert "quotas.containers" in done.stdout + done.stderr
