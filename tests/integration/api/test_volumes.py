"""Volumes as Docker's clients know them: options, filters, prune, use and mounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import IMAGE, Api, until
from tests.support.engine import Engine

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _no_volume_is_left(api: Api) -> Iterator[None]:
    yield
    left = [v["Name"] for v in api.ok("GET", "/volumes")["Volumes"]]
    for name in left:
        api("DELETE", f"/volumes/{name}", force=1)
    assert not left


def _make(api: Api, name: str, **options: str) -> dict[str, Any]:
    body = {"Name": name, "DriverOpts": options}
    return dict(api.ok("POST", "/volumes/create", body))


def _names(api: Api, **filters: list[str]) -> list[str]:
    return [v["Name"] for v in api.ok("GET", "/volumes", filters=filters)["Volumes"]]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"Name": "a"}, 400, "create a: volume name is too short, names should be at least two"),
        ({"Name": "a/b"}, 400, 'create a/b: "a/b" includes invalid characters for a local volume'),
        ({"Name": "ok", "Driver": "nope"}, 404, 'plugin "nope" not found'),
        ({"Name": "ok", "DriverOpts": {"foo": "1"}}, 400, 'create ok: invalid option: "foo"'),
        ({"Name": "ok", "DriverOpts": {"type": "tmpfs"}}, 400, 'missing required option: "device"'),
        ({"Name": "ok", "DriverOpts": {"size": "1m"}}, 400, "quota size requested but no quota"),
        (
            {"Name": "ok", "DriverOpts": {"type": "nfs", "device": ":/x", "o": "addr=10.0.0.1"}},
            501,
            "volume type 'nfs' cannot be mounted without root",
        ),
    ],
)
def test_what_cannot_be_made_is_refused(
    api: Api, body: dict[str, object], status: int, text: str
) -> None:
    found = api.refused("POST", "/volumes/create", body)
    assert text in found[1]
    assert found[0] in (status, 400)


def test_making_it_again_gives_the_same_and_other_options_are_a_conflict(api: Api) -> None:
    made = _make(api, "same", type="tmpfs", device="tmpfs", o="size=1m")
    assert _make(api, "same", type="tmpfs", device="tmpfs", o="size=1m") == made
    assert _make(api, "same") == made
    body = {"Name": "same", "DriverOpts": {"type": "tmpfs", "device": "tmpfs", "o": "size=2m"}}
    assert api.refused("POST", "/volumes/create", body)[0] == 409
    api.ok("DELETE", "/volumes/same")


def test_tmpfs_with_size_and_owner(api: Api, engine: Engine) -> None:
    _make(api, "quick", type="tmpfs", device="tmpfs", o="size=1m,uid=1234,mode=700")
    out = engine.ok(
        "run", "--rm", "--network", "none", "-v", "quick:/q", IMAGE,
        "sh", "-c", "stat -c '%u %a' /q; df -k /q | tail -1; grep ' /q ' /proc/mounts",
    )  # fmt: skip
    lines = out.splitlines()
    assert lines[0] == "1234 700"
    assert lines[1].split()[1] == "1024"
    assert " tmpfs " in lines[2]
    made = api.create("true", HostConfig={"Binds": ["quick:/q"]})
    mount = api.ok("GET", f"/containers/{made}/json")["Mounts"][0]
    assert (mount["Type"], mount["Name"], mount["Mode"], mount["RW"]) == (
        "volume", "quick", "z", True,
    )  # fmt: skip
    assert mount["Source"].endswith("/volumes/quick/_data")
    api.remove(made)
    api.ok("DELETE", "/volumes/quick")


def test_in_use_names_the_containers(api: Api) -> None:
    _make(api, "used")
    made = api.create("true", HostConfig={"Binds": ["used:/u"]})
    for force in (0, 1):
        assert api.refused("DELETE", "/volumes/used", force=force) == (
            409,
            f"remove used: volume is in use - [{made}]",
        )
    api.remove(made)
    api.ok("DELETE", "/volumes/used")
    assert api.refused("DELETE", "/volumes/used") == (404, "get used: no such volume")
    assert api("DELETE", "/volumes/used", force=1) == (204, None)


def test_filters(api: Api) -> None:
    api.ok("POST", "/volumes/create", {"Name": "data-1", "Labels": {"tier": "back", "x": ""}})
    api.ok("POST", "/volumes/create", {"Name": "data-2", "Labels": {"tier": "front"}})
    made = api.create("true", HostConfig={"Binds": ["data-2:/d"]})
    assert _names(api, name=["data"]) == ["data-1", "data-2"]
    assert _names(api, name=["^data-[2-9]$"]) == ["data-2"]
    assert _names(api, label=["tier"]) == ["data-1", "data-2"]
    assert _names(api, label=["tier=back", "x"]) == ["data-1"]
    assert _names(api, dangling=["true"]) == ["data-1"]
    assert _names(api, dangling=["0"]) == ["data-2"]
    assert _names(api, driver=["local"]) == ["data-1", "data-2"]
    assert _names(api, driver=["other"]) == []
    assert api.refused("GET", "/volumes", filters={"colour": ["red"]})[0] == 400
    api.remove(made)
    for name in ("data-1", "data-2"):
        api.ok("DELETE", f"/volumes/{name}")


def test_prune_takes_anonymous_ones_unless_all_are_asked_for(api: Api) -> None:
    _make(api, "named")
    _make(api, "elsewhere", type="tmpfs", device="tmpfs")
    api.ok("POST", "/volumes/create", {"Name": "kept", "Labels": {"keep": "1"}})
    anonymous = api.ok("POST", "/volumes/create", {})["Name"]
    assert api.ok("POST", "/volumes/prune")["VolumesDeleted"] == [anonymous]
    pruned = api.ok("POST", "/volumes/prune", filters={"all": ["true"], "label!": ["keep"]})
    assert pruned["VolumesDeleted"] == ["named"]
    # Before API 1.42 named ones went as well.
    assert api.ok("POST", "/v1.41/volumes/prune")["VolumesDeleted"] == ["kept"]
    api.ok("DELETE", "/volumes/elsewhere")


def test_an_old_list_of_filters_is_understood(api: Api) -> None:
    _make(api, "old")
    found = api.ok("GET", "/volumes", filters={"name": {"old": True}})["Volumes"]
    assert [v["Name"] for v in found] == ["old"]
    api.ok("DELETE", "/volumes/old")


def test_use_is_counted_by_df(api: Api) -> None:
    _make(api, "counted")
    made = api.run(
        "sh", "-c", "head -c 100000 /dev/zero > /c/x", HostConfig={"Binds": ["counted:/c"]}
    )
    until(lambda: api.state(made)["Status"] == "exited")
    volumes = api.ok("GET", "/system/df", type="volume")["Volumes"]
    usage = next(v["UsageData"] for v in volumes if v["Name"] == "counted")
    assert usage["RefCount"] == 1
    assert usage["Size"] >= 100_000
    api.remove(made)
    api.ok("DELETE", "/volumes/counted")


def test_mounts_are_shown_as_docker_shows_them(api: Api, tmp_path: Path) -> None:
    host = {
        "Binds": ["vol:/v", "vol:/vr:ro", "/usr:/b:ro", f"{tmp_path}:/b2"],
        "Tmpfs": {"/run/x": "size=1m", "/run/y": ""},
        "Mounts": [
            {"Type": "tmpfs", "Target": "/t"},
            {"Type": "volume", "Source": "vol", "Target": "/m"},
            {"Type": "bind", "Source": "/usr", "Target": "/mb", "ReadOnly": True},
        ],
    }
    made = api.create("true", HostConfig=host, Volumes={"/anon": {}})
    found = api.ok("GET", f"/containers/{made}/json")
    mounts = {m["Destination"]: m for m in found["Mounts"]}
    modes = {target: (m["Type"], m["Mode"], m["RW"]) for target, m in mounts.items()}
    assert modes == {
        "/v": ("volume", "z", True),
        "/vr": ("volume", "ro", False),
        "/b": ("bind", "ro", False),
        "/b2": ("bind", "", True),
        "/t": ("tmpfs", "", True),
        "/m": ("volume", "z", True),
        "/mb": ("bind", "", False),
        "/anon": ("volume", "", True),
    }
    assert mounts["/b"]["Propagation"] == "rprivate"
    assert found["HostConfig"]["Tmpfs"] == {"/run/x": "size=1m", "/run/y": ""}
    assert found["HostConfig"]["Binds"] == host["Binds"]
    assert [m["Target"] for m in found["HostConfig"]["Mounts"]] == ["/t", "/m", "/mb"]
    api.remove(made)
    api.ok("DELETE", "/volumes/vol")


def test_volumes_of_several_containers(api: Api, engine: Engine) -> None:
    """The last one named has the last word, and read-only stays read-only."""
    one = api.create("true", HostConfig={"Binds": ["v-one:/shared", "v-ro:/ro:ro"]})
    two = api.create("true", HostConfig={"Binds": ["v-two:/shared"]})
    third = api.create("true", HostConfig={"VolumesFrom": [one, f"{two}:ro"]})
    mounts = {
        m["Destination"]: (m["Name"], m["RW"])
        for m in api.ok("GET", f"/containers/{third}/json")["Mounts"]
    }
    assert mounts == {"/shared": ("v-two", False), "/ro": ("v-ro", False)}
    script = "touch /shared/x 2>/dev/null || echo read-only; touch /ro/x 2>/dev/null || echo too"
    out = engine.ok(
        "run", "--rm", "--network", "none", "--volumes-from", third, IMAGE, "sh", "-c", script
    )
    assert out == "read-only\ntoo"
    body = {"Image": IMAGE, "HostConfig": {"VolumesFrom": ["nobody"], "NetworkMode": "none"}}
    assert api.refused("POST", "/containers/create", body) == (
        400, "No such container: nobody",
    )  # fmt: skip
    body["HostConfig"] = {"VolumesFrom": [f"{one}:odd"], "NetworkMode": "none"}
    assert (
        "invalid mode for volumes-from: odd" in api.refused("POST", "/containers/create", body)[1]
    )
    api.remove(one, two, third)
    for name in ("v-one", "v-two", "v-ro"):
        api.ok("DELETE", f"/volumes/{name}")


def test_copy_up(api: Api, engine: Engine) -> None:
    """What the image has at the target comes into an empty volume only, with owners and modes."""
    base = api.run(
        "sh", "-c", "mkdir /data; echo hi > /data/f; chown 7:8 /data/f; chmod 640 /data/f; "
        "chown 5:6 /data; chmod 2751 /data",
    )  # fmt: skip
    until(lambda: api.state(base)["Status"] == "exited")
    api.ok("POST", "/commit", container=base, repo="copyup", tag="1")
    stat = ("sh", "-c", "stat -c '%u %g %a' /data; ls /data")
    run = ("run", "--rm", "--network", "none")
    assert engine.ok(*run, "-v", "fresh:/data", "copyup:1", *stat) == "5 6 2751\nf"
    show = "stat -c '%u %g %a' /x/f"
    assert engine.ok(*run, "-v", "fresh:/x", IMAGE, "sh", "-c", show) == "7 8 640"
    engine.ok(*run, "-v", "filled:/x", IMAGE, "touch", "/x/mine")
    assert engine.ok(*run, "-v", "filled:/data", "copyup:1", "ls", "/data") == "mine"
    assert engine.ok(*run, "-v", "not:/data:nocopy", "copyup:1", "ls", "/data") == ""
    mount = "type=volume,src=not2,dst=/data,volume-nocopy"
    assert engine.ok(*run, "--mount", mount, "copyup:1", "ls", "/data") == ""
    api.remove(base)
    engine.ok("rmi", "copyup:1")
    for name in ("fresh", "filled", "not", "not2"):
        api.ok("DELETE", f"/volumes/{name}")


def test_subpath_stays_inside(api: Api, engine: Engine) -> None:
    run = ("run", "--rm", "--network", "none")
    script = (
        "mkdir -p /v/a/b; echo in > /v/a/b/f; ln -s / /v/out; ln -s a/b /v/ok; ln -s ../.. /v/up"
    )
    engine.ok(*run, "-v", "sub:/v", IMAGE, "sh", "-c", script)
    mount = "type=volume,src=sub,dst=/s,volume-subpath="
    assert engine.ok(*run, "--mount", f"{mount}a/b", IMAGE, "cat", "/s/f") == "in"
    assert engine.ok(*run, "--mount", f"{mount}ok", IMAGE, "cat", "/s/f") == "in"
    for path in ("out", "up", "out/etc", "missing"):
        done = engine.run(*run, "--mount", f"{mount}{path}", IMAGE, "ls", "/s")
        assert done.returncode == 125, path
        assert "subpath" in done.stderr
    for path in ("/a", "../a", "a/../../b"):
        done = engine.run(*run, "--mount", f"{mount}{path}", IMAGE, "ls", "/s")
        assert done.returncode == 125, path
        assert "subpath must be a relative path within the volume" in done.stderr
    api.ok("DELETE", "/volumes/sub")


def test_a_subpath_that_is_swapped_leads_nowhere_else(api: Api, engine: Engine) -> None:
    """A container that owns the volume exchanges the directory for a link to / all the time."""
    swap = (
        "cd /v; mkdir dir; touch dir/inside; touch /v/ready; while :; do "
        "mv dir away; ln -s / dir; rm dir; mv away dir; done"
    )
    swapper = api.run("sh", "-c", swap, HostConfig={"Binds": ["raced:/v"]})
    until(lambda: api("HEAD", f"/containers/{swapper}/archive", path="/v/ready")[0] == 200)
    mount = {
        "Type": "volume", "Source": "raced", "Target": "/s",
        "VolumeOptions": {"Subpath": "dir", "NoCopy": True},
    }  # fmt: skip
    seen = []
    for _ in range(12):
        made = api.create("ls", "/s", HostConfig={"Mounts": [mount]})
        status, found = api("POST", f"/containers/{made}/start")
        assert status in (204, 400), found
        if status == 204:
            api.ok("POST", f"/containers/{made}/wait")
            seen.append(api.raw("GET", f"/containers/{made}/logs", stdout=1)[2][8:].split())
        else:
            assert "path" in found["message"]
        api.remove(made)
    assert all(names == [b"inside"] for names in seen), seen
    api.remove(swapper)
    api.ok("DELETE", "/volumes/raced")
