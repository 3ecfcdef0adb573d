"""Several identities on one engine: what each made is for it alone, and what it may is granted."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.policy.forced import policy
from tests.support import pki
from tests.support.api import IMAGE, Api, TlsApi
from tests.support.engine import Engine, new_engine
from tests.support.registry import free_port
from tests.support.savedimage import archive

pytestmark = pytest.mark.integration
CA = pki.authority()
DEFAULT = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: mine}\n"


@dataclass
class World:
    """An engine, its own user, and three clients with certificates."""

    engine: Engine
    own: Api
    alice: Api
    bob: Api
    admin: Api


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port, files = free_port(), tmp_path_factory.mktemp("c")

    def client(name: str, role: str) -> Path:
        uri = f"spiffe://example.org/role/{role}/{name}"
        return pki.write(files / name, CA, pki.signed(CA, name, uris=(uri,)))

    clients = [client("alice", "ci"), client("bob", "developer"), client("root", "admin")]
    with new_engine(start=False) as engine:
        server = pki.signed(CA, "server", server=True)
        pki.write(engine.root / "c/rootless/tls", CA, server)
        engine.start(
            "--tlsverify", "-H", f"tcp://localhost:{port}", f"--host=unix://{engine.socket}"
        )
        yield World(engine, Api(engine), *(TlsApi(engine, port, one) for one in clients))


@pytest.fixture(autouse=True)
def _clean(world: World) -> Iterator[None]:
    """One test's failure is not the next one's."""
    yield
    world.engine.purge()


def ids(api: Api) -> set[str]:
    return {one["Id"] for one in api.ok("GET", "/containers/json", all=1)}


def test_what_one_made_does_not_exist_for_the_other(world: World) -> None:
    alice, bob = world.alice, world.bob
    made = alice.run("sleep", "600", name="alices")
    ours = world.own.create("true", name="ours")
    try:
        assert ids(alice) == {made}
        assert ids(bob) == set()
        assert ids(world.admin) == ids(world.own) == {made, ours}
        absent = (404, f"No such container: {made}")
        for method, path in (
            ("GET", "json"), ("POST", "stop"), ("POST", "start"), ("GET", "top"), ("POST", "kill"),
            ("POST", "pause"), ("GET", "changes"), ("POST", "update"), ("GET", "export"),
            ("POST", "wait"), ("POST", "restart"),
        ):  # fmt: skip
            assert bob.refused(method, f"/containers/{made}/{path}", {}) == absent, path
        assert bob.refused("GET", "/containers/alices/logs", stdout=1)[0] == 404
        assert bob.refused("GET", f"/containers/{made[:12]}/json")[0] == 404
        assert bob.refused("GET", "/containers/alices/archive", path="/etc/passwd")[0] == 404
        assert bob.refused("POST", "/containers/alices/rename", name="x")[0] == 404
        assert bob.refused("DELETE", f"/containers/{made}", force=1)[0] == 404
        assert bob.refused("POST", "/commit", container=made)[0] == 404
        assert bob.refused("POST", "/containers/alices/exec", {"Cmd": ["id"]})[0] == 404
        run = alice.ok("POST", "/containers/alices/exec", {"Cmd": ["id"]})["Id"]
        for method, path in (("GET", "json"), ("POST", "start"), ("POST", "resize?h=1&w=1")):
            assert bob.refused(method, f"/exec/{run}/{path}", {})[0] == 404
        assert alice.refused("POST", "/containers/ours/start")[0] == 404
        assert bob.ok("POST", "/containers/prune")["ContainersDeleted"] in (None, [])
        assert bob.ok("GET", "/info")["Containers"] == 0
        assert bob.ok("GET", "/system/df")["Containers"] == []
        assert alice.ok("GET", "/info")["Containers"] == 1
    finally:
        world.own.remove(made, ours)


@pytest.mark.parametrize(
    ("host", "word"),
    [
        ({"VolumesFrom": ["alices"]}, "No such container: alices"),
        ({"NetworkMode": "container:alices"}, "No such container: alices"),
        ({"PidMode": "container:alices"}, "No such container: alices"),
        ({"IpcMode": "container:alices"}, "No such container: alices"),
        ({"NetworkMode": "bridge", "Links": ["alices:db"]}, "No such container: alices"),
        ({"Binds": ["alices:/v"]}, "volume alices is another identity's"),
        ({"NetworkMode": "alices"}, "network alices not found"),
    ],
)
def test_nothing_of_anothers_gets_into_a_container(
    world: World, host: dict[str, object], word: str
) -> None:
    alice, bob = world.alice, world.bob
    alice.ok("POST", "/volumes/create", {"Name": "alices"})
    alice.ok("POST", "/networks/create", {"Name": "alices"})
    shared = {"IpcMode": "shareable", "NetworkMode": "bridge"}
    made = alice.run("sleep", "600", name="alices", HostConfig=shared)
    try:
        body: dict[str, object] = {"Image": IMAGE, "HostConfig": host}
        status, message = bob.refused("POST", "/containers/create", body)
        assert (status in (400, 404, 409), word in message) == (True, True), message
        body["Cmd"] = ["true"]
        alice.remove(alice.ok("POST", "/containers/create", body)["Id"])
    finally:
        world.own.remove(made)
        alice.ok("DELETE", "/networks/alices")
        alice.ok("DELETE", "/volumes/alices")


def test_neither_beginnings_of_ids_nor_hints_tell_of_others(world: World) -> None:
    alice, bob = world.alice, world.bob
    alice.ok("POST", "/networks/create", {"Name": "alices-net"})
    mine = bob.create("true")
    others = [alice.create("true")]
    try:
        while others[-1][0] != mine[0]:
            others.append(alice.create("true"))
        # Were alice's looked at, it would be ambiguous.
        assert bob.ok("GET", f"/containers/{mine[0]}/json")["Id"] == mine
        can = "/rootless/can"
        assert bob.ok("GET", can, verb="container.inspect", object=mine[0])["Allowed"]
        for path, query in (
            ("/networks/nobodys", {}),
            (can, {"verb": "network.inspect", "object": "nobodys"}),
        ):
            assert "alices-net" in str(alice("GET", path, **query)), path
            assert "alices-net" not in str(bob("GET", path, **query)), path
    finally:
        world.own.remove(mine, *others)
        alice.ok("DELETE", "/networks/alices-net")


def test_an_answer_about_anothers_is_that_about_nothing(world: World) -> None:
    """Word for word, so that nobody learns by asking what there is."""
    alice, bob = world.alice, world.bob
    made = alice.run("sleep", "600", name="alices", Labels={"a": "b"})
    ghost, archived = "f" * 64, archive("x:1")
    asked: list[tuple[str, str, object, dict[str, object]]] = [
        ("GET", "/containers/{}/json", None, {}),
        ("GET", "/containers/{}/logs", None, {"stdout": 1}),
        ("POST", "/containers/{}/attach", None, {"stream": 1, "stdout": 1}),
        ("POST", "/containers/{}/wait", None, {}),
        ("HEAD", "/containers/{}/archive", None, {"path": "/tmp"}),
        ("PUT", "/containers/{}/archive", archived, {"path": "/tmp"}),
        ("GET", "/containers/json", None, {"all": 1, "filters": {"before": ["{}"]}}),
        ("GET", "/containers/json", None, {"all": 1, "filters": {"since": ["{}"]}}),
        ("GET", "/containers/json", None, {"all": 1, "filters": {"id": ["{}"]}}),
        ("GET", "/containers/json", None, {"all": 1, "filters": {"name": ["{}"]}}),
        ("GET", "/events", None, {"since": 1, "until": 2, "filters": {"container": ["{}"]}}),
        ("GET", "/rootless/denied", None, {"container": "{}"}),
        ("GET", "/rootless/can", None, {"verb": "container.stop", "object": "{}"}),
        ("POST", "/networks/bridge/connect", {"Container": "{}"}, {}),
        ("POST", "/networks/bridge/disconnect", {"Container": "{}", "Force": True}, {}),
        ("POST", "/commit", None, {"container": "{}"}),
        ("POST", "/rootless/plan", {"Image": IMAGE, "HostConfig": {"VolumesFrom": ["{}"]}}, {}),
        ("POST", "/containers/create", {"Image": IMAGE, "HostConfig": {"Links": ["{}:x"]}}, {}),
    ]
    names = (("alices", "nobody"), (made, ghost), (made[:12], ghost[:12]), (made[:5], ghost[:5]))
    for method, path, body, query in asked:
        for real, absent in names:
            found, wanted = (
                bob.raw(
                    method,
                    path.format(name),
                    body if isinstance(body, bytes | None) else _named(body, name),
                    **_named(query, name),
                )
                for name in (real, absent)
            )
            told = found[2].replace(real.encode(), absent.encode())
            assert (found[0], told) == (wanted[0], wanted[2]), (method, path, real)
            assert found[0] == 404 or (found[0], told) in _NOTHING, (method, path, found)
    # A name is one for all; whose container has it is nobody else's business.
    bob.create("true", name="bobs")
    for method, path, body, query in (
        ("POST", "/containers/create", {"Image": IMAGE}, {"name": "alices"}),
        ("POST", "/containers/bobs/rename", None, {"name": "alices"}),
    ):
        status, message = bob.refused(method, path, body, **query)
        assert status == 409
        assert 'The container name "/alices" is already in use by another identity' in message
        assert made[:12] not in message
    assert made in alice.refused("POST", "/containers/create", {"Image": IMAGE}, name="alices")[1]


_NOTHING = {(200, b"[]\n"), (200, b"")} | {
    (400, f'{{"message":"{before}No such container: {name}"}}\n'.encode())
    for name in ("nobody", "f" * 64, "f" * 12, "f" * 5)
    for before in ("", f"could not get container for {name}: ")
}
"""What is said of nothing, beside 404."""


def _named(value: Any, name: str) -> Any:
    """JSON with a container's name put in."""
    return json.loads(json.dumps(value).replace("{}", name)) if value else value


def test_volumes_and_networks_are_their_makers(world: World) -> None:
    alice, bob = world.alice, world.bob
    alice.ok("POST", "/volumes/create", {"Name": "store"})
    alice.ok("POST", "/networks/create", {"Name": "net"})
    made = alice.run("sleep", "600", name="box", HostConfig={"NetworkMode": "net"})
    try:
        assert "store" not in [v["Name"] for v in bob.ok("GET", "/volumes")["Volumes"]]
        assert "net" not in [n["Name"] for n in bob.ok("GET", "/networks")]
        assert "host" in [n["Name"] for n in bob.ok("GET", "/networks")]
        assert "store" in [v["Name"] for v in alice.ok("GET", "/volumes")["Volumes"]]
        assert bob.refused("GET", "/volumes/store") == (404, "get store: no such volume")
        assert bob.refused("DELETE", "/volumes/store")[0] == 404
        assert bob.refused("POST", "/volumes/create", {"Name": "store"})[0] == 409
        assert bob.refused("GET", "/networks/net") == (404, "network net not found")
        assert bob.refused("DELETE", "/networks/net")[0] == 404
        for verb in ("connect", "disconnect"):
            assert bob.refused("POST", f"/networks/net/{verb}", {"Container": "box"})[0] == 404
        assert bob.ok("POST", "/networks/prune")["NetworksDeleted"] is None
        bob.ok("POST", "/volumes/prune", filters={"all": ["1"]})
        assert alice.ok("GET", "/volumes/store")["Name"] == "store"
        assert list(alice.ok("GET", "/networks/net")["Containers"]) == [made]
    finally:
        world.own.remove(made)
        alice.ok("DELETE", "/networks/net")
        alice.ok("DELETE", "/volumes/store")


def test_events_are_for_whom_they_are_about(world: World) -> None:
    began = time.time()
    made = world.alice.run("true", name="told")
    world.alice.ok("POST", f"/containers/{made}/wait")
    world.alice.remove(made)

    def heard(api: Api) -> set[str]:
        until = int(time.time()) + 1
        with api.stream("GET", "/events", since=began, until=until) as found:
            return {event["Actor"]["ID"] for event in found if event["Type"] == "container"}

    assert made in heard(world.alice)
    assert made not in heard(world.bob)
    assert made in heard(world.own)


def test_grants_are_all_that_is_allowed(world: World) -> None:
    grants = """{api: {grants: [
      {who: {roles: [ci]}, verbs: [container.*, image.run, exec.*],
       limits: {networks: [none], mounts: [], execUsers: ["1000"], paths: [/tmp]}},
      {who: {roles: [developer]}, verbs: [container.list, system.*]}]}}"""
    alice, bob = world.alice, world.bob
    with policy(world.engine, grants, head=DEFAULT):
        made = alice.run("sleep", "600", name="granted")
        ask = alice.refused
        for host, found in (
            ({}, "api.grant: networks=bridge: "),
            ({"NetworkMode": "none", "Binds": ["/srv:/x"]}, "api.grant: mounts=/srv: "),
        ):
            body = {"Image": IMAGE, "HostConfig": host}
            status, message = ask("POST", "/containers/create", body)
            assert (status, found in message) == (403, True), message
        status, message = ask("POST", f"/containers/{made}/exec", {"Cmd": ["id"], "User": "root"})
        assert (status, "api.grant: execUsers=root: " in message) == (403, True)
        alice.ok("POST", f"/containers/{made}/exec", {"Cmd": ["id"], "User": "1000"})
        status, message = ask("GET", f"/containers/{made}/archive", path="/etc/passwd")
        assert (status, "api.grant: paths=/etc/passwd: " in message) == (403, True)
        assert alice.raw("GET", f"/containers/{made}/archive", path="/tmp")[0] == 200
        assert ask("POST", "/images/create", fromImage="localhost:1/x", tag="1")[0] == 403
        bob.ok("GET", "/containers/json")
        status, message = bob.refused("POST", "/containers/create", {"Image": IMAGE})
        assert status == 403
        assert "api.grant: action=image.run: nothing grants this to bob on" in message
        # The engine's own user needs none.
        world.own.remove(made)


def test_quotas_are_for_each(world: World) -> None:
    body = {"Image": IMAGE, "HostConfig": {"NetworkMode": "none"}}
    alice, bob = world.alice, world.bob
    with policy(world.engine, "{quotas: {maximumContainers: 2}}", head=DEFAULT):
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(
                    lambda api: (api, api("POST", "/containers/create", body)[0]),
                    [alice, bob] * 4,
                )
            )
        for api in (alice, bob):
            assert sorted(s for one, s in answers if one is api) == [201, 201, 403, 403]
            assert len(ids(api)) == 2
    world.own.remove(*ids(world.own))


def test_the_decision_log_knows_who_was_refused(world: World) -> None:
    made = world.alice.create("true")
    world.bob.refused("GET", f"/containers/{made}/json")
    lines = (world.engine.data / "audit/decisions.ndjson").read_text().splitlines()
    [line] = [one for one in lines if "api.owner" in one and made in one]
    who = json.loads(line)["identity"]
    assert (who["name"], who["uri"]) == ("bob", f"spiffe://example.org/role/{who['role']}/bob")
    world.own.remove(made)


_GRANTS = """{api: {grants: [
  {who: {roles: [ci]}, verbs: [container.*, image.run], objects: {owners: [self]}},
  {who: {identities: ["spiffe://example.org/role/developer/*"]}, verbs: [container.list]}]}}"""


def test_each_is_told_who_he_is_and_what_he_may(world: World) -> None:
    told = world.alice.ok("GET", "/rootless/identity")
    alice = "spiffe://example.org/role/ci/alice"
    assert (told["Key"], told["Role"], told["Own"]) == (alice, "ci", False)
    told = world.own.ok("GET", "/rootless/identity")
    assert (told["Key"], told["Own"]) == (f"uid:{os.getuid()}", True)

    def may(api: Api, verb: str, target: str = "", **others: str) -> bool:
        found = api.ok("GET", "/rootless/can", verb=verb, object=target, **others)
        assert found["Allowed"] or found["Findings"]
        return bool(found["Allowed"])

    with policy(world.engine, _GRANTS, head=DEFAULT):
        made = world.alice.create("true", name="alices")
        # What is answered is what happens.
        assert may(world.alice, "container.start", "alices")
        world.alice.ok("POST", f"/containers/{made}/start")
        assert not may(world.alice, "volume.create")
        assert world.alice.refused("POST", "/volumes/create", {"Name": "v"})[0] == 403
        assert may(world.bob, "container.list")
        assert not may(world.bob, "container.create")
        assert world.bob.refused("POST", "/containers/create", {"Image": IMAGE})[0] == 403
        # What is not there for bob is not there in the answer either.
        path = "/rootless/can"
        assert world.bob.refused("GET", path, verb="container.stop", object="alices")[0] == 404
        # Administrators ask about others, and nobody else.
        assert may(world.admin, "container.stop", "alices", **{"as": alice})
        assert world.bob.refused("GET", path, verb="container.list", **{"as": alice})[0] == 403
        bob = {"as": "spiffe://example.org/role/developer/bob"}
        assert may(world.own, "container.stop", "alices", **{"as": alice})
        assert not may(world.own, "container.stop", "alices", **bob)
        assert world.own.refused("GET", path, verb="container.halt")[0] == 400


def test_what_may_be_done_with_images(world: World) -> None:
    """By whose they are and what they say where they are there, else by their names."""

    def may(api: Api, verb: str, target: str) -> bool:
        return bool(api.ok("GET", "/rootless/can", verb=verb, object=target)["Allowed"])

    grants = """{images: {denyTags: [latest]}, api: {grants: [
      {who: {roles: [ci]}, verbs: [image.remove], objects: {owners: [self], labels: [team=a]}},
      {who: {roles: [ci]}, verbs: [image.load, image.pull, image.run]}]}}"""
    path = "/rootless/can"
    assert world.alice.raw("POST", "/images/load", archive("mine:1"))[0] == 200
    try:
        with policy(world.engine, grants, head=DEFAULT):
            assert may(world.alice, "image.run", "mine:1")
            # It has no label, so the grant is not about it.
            assert not may(world.alice, "image.remove", "mine:1")
            assert world.alice.refused("DELETE", "/images/mine:1")[0] == 403
            for verb in ("image.remove", "image.inspect", "image.run"):
                absent = world.bob.refused("GET", path, verb=verb, object="mine:1")
                assert absent == (404, "No such image: mine:1")
            assert world.alice.refused("GET", path, verb="image.remove", object="other")[0] == 404
            assert may(world.alice, "image.pull", "quay.io/a/b:1")
            assert not may(world.alice, "image.pull", "quay.io/a/b")
            assert (
                world.alice.refused(
                    "POST", "/images/create", fromImage="quay.io/a/b", tag="latest"
                )[0]
                == 403
            )
            assert may(world.alice, "image.run", "not/there:1")
            assert not may(world.alice, "image.run", "not/there")
    finally:
        world.own.ok("DELETE", "/images/mine:1")


def test_the_command_line_asks_the_same(world: World) -> None:
    engine = world.engine
    assert engine.ok("auth", "whoami").splitlines()[0] == f"uid:{os.getuid()}"
    with policy(engine, _GRANTS, head=DEFAULT):
        alice = ("--as", "spiffe://example.org/role/ci/alice")
        assert engine.run("auth", "can-i", *alice, "container.create").stdout == "yes\n"
        done = engine.run("auth", "can-i", *alice, "volume.create")
        assert (done.returncode, done.stdout) == (1, "no\n")
        assert "api.grant: nothing grants this to alice" in done.stderr
    done = engine.run("auth", "can-i", "container.crate")
    assert done.returncode == 1
    assert "did you mean 'container.create'" in done.stderr


def names(api: Api) -> set[str]:
    return {tag for one in api.ok("GET", "/images/json") for tag in one["RepoTags"]}


def test_images_are_for_who_brought_them(world: World) -> None:
    alice, bob, own = world.alice, world.bob, world.own
    builtin = {f"{IMAGE}:latest"}
    assert alice.raw("POST", "/images/load", archive("mine:1"))[0] == 200
    try:
        assert names(alice) == names(own) == builtin | {"mine:1"}
        assert names(bob) == builtin
        absent = (404, "No such image: mine:1")
        assert bob.refused("GET", "/images/mine:1/json") == absent
        assert bob.refused("GET", "/images/mine:1/history") == absent
        assert bob.refused("GET", "/rootless/images/mine:1") == absent
        assert bob.refused("GET", "/images/mine:1/get")[0] == 404
        assert bob.refused("POST", "/images/mine:1/tag", repo="x") == absent
        assert bob.refused("DELETE", "/images/mine:1") == absent
        assert bob.refused("POST", "/containers/create", {"Image": "mine:1"})[0] == 404
        body = {"Image": IMAGE, "HostConfig": {"Mounts": [
            {"Type": "image", "Source": "mine:1", "Target": "/x"}]}}  # fmt: skip
        assert bob.refused("POST", "/containers/create", body)[0] == 400
        # Nor is the name given to another image; the same image is for both then.
        assert bob.refused("POST", f"/images/{IMAGE}/tag", repo="mine", tag="1")[0] == 409
        assert b"another identity" in bob.raw("POST", "/images/load", archive("mine:1", b"two"))[2]
        assert names(bob) == builtin
        assert bob.raw("POST", "/images/load", archive("mine:1"))[0] == 200
        assert names(bob) == builtin | {"mine:1"}
        bob.ok("DELETE", "/images/mine:1")
        assert names(bob) == builtin
        assert "mine:1" in names(alice)
        bob.ok("POST", "/images/prune", filters={"dangling": ["false"]})
        assert "mine:1" in names(alice)
    finally:
        own.ok("DELETE", "/images/mine:1")
