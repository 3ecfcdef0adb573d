"""Docker's structures to the model and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.api.dto.binds import parse_bind, parse_tmpfs
from rootless.api.dto.config import from_config
from rootless.api.dto.container import status_text
from rootless.api.dto.create import CreateBody, ExecBody, to_exec, to_request
from rootless.api.dto.decode import decode
from rootless.api.dto.host_config import from_host_config
from rootless.api.dto.image import progress
from rootless.api.dto.network import ConnectBody
from rootless.api.dto.ports import port_list, port_map
from rootless.api.dto.times import parse_query_time, rfc3339, rfc3339_fixed
from rootless.api.routes.archive import go_mode
from rootless.errors import InvalidInput
from rootless.model.records import ContainerState, Health, Progress
from rootless.model.request import (
    ContainerRequest,
    MountRequest,
    PortBinding,
    Resources,
    RlimitRequest,
)
from rootless.units import human_duration

SECOND = 10**9


def request(**body: Any) -> ContainerRequest:
    """A create body as the model sees it."""
    found, warnings = decode(json.dumps(body).encode(), CreateBody)
    return to_request(found, name="n", platform="", warnings=warnings)


# Decoding


def test_names_match_in_any_case_and_null_is_zero() -> None:
    found = request(image="a", ENV=None, hostconfig={"BINDS": None, "dns": ["1.1.1.1"]})
    assert found.config.image == "a"
    assert found.config.env == ()
    assert found.host.dns == ("1.1.1.1",)
    assert found.warnings == ()


def test_unknown_fields_are_listed_with_their_path() -> None:
    found = request(
        Image="a", Bogus=1, HostConfig={"Mounts": [{"Type": "tmpfs", "Target": "/t", "Odd": 1}]}
    )
    assert found.warnings == (
        "field Bogus is not known and was ignored",
        "field HostConfig.Mounts[0].Odd is not known and was ignored",
    )


def test_command_forms() -> None:
    assert request(Cmd="a b").config.cmd == ("a b",)
    assert request(Cmd=["a", "b"]).config.cmd == ("a", "b")
    assert request(Cmd=None).config.cmd is None
    assert request(Entrypoint=[]).config.entrypoint == ()


def test_resources() -> None:
    host = {
        "Memory": 1, "NanoCpus": 2, "PidsLimit": 0, "MemorySwappiness": -1, "CpusetCpus": "0",
        "BlkioDeviceReadIOps": [{"Path": "/dev/x", "Rate": 5}], "OomKillDisable": None,
        "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
        "Devices": [{"PathOnHost": "/dev/fuse"}],
    }  # fmt: skip
    found = request(HostConfig=host).host
    assert found.resources == Resources(
        memory=1, nano_cpus=2, cpuset_cpus="0", blkio_read_iops=(("/dev/x", 5),)
    )
    assert found.ulimits == (RlimitRequest("nofile", 1, 2),)
    assert found.devices[0].path_in_container == "/dev/fuse"
    assert found.devices[0].permissions == "rwm"
    assert request(HostConfig={"PidsLimit": -1}).host.resources.pids_limit == -1


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"DeviceRequests": [{"Count": 1}]}, "DeviceRequests is not supported"),
        ({"KernelMemory": 1}, "KernelMemory is not supported"),
        ({"ShmSize": -1}, "SHM size"),
        ({"Isolation": "process"}, "invalid isolation 'process' on linux"),
        ({"VolumeDriver": "foo"}, 'plugin "foo" not found'),
        ({"Binds": ["/a:/b", "/c:/b/"]}, "Duplicate mount point: /b"),
        ({"Devices": [{"PathOnHost": "/dev/x", "CgroupPermissions": "q"}]}, "permissions"),
        ({"PortBindings": {"80/icmp": []}}, "invalid proto"),
        ({"PortBindings": {"0/tcp": []}}, "out of range"),
        ({"PortBindings": {"80": [{"HostPort": "99999"}]}}, "out of range"),
        ({"Mounts": [{"Type": "what", "Target": "/a"}]}, "mount type unknown"),
        ({"Mounts": [{"Type": "bind", "Target": "/a"}]}, "Source must not be empty"),
        ({"Mounts": [{"Type": "bind", "Source": "a", "Target": "/a"}]}, "must be absolute"),
        ({"Mounts": [{"Type": "bind", "Source": "/", "Target": "a"}]}, "must be absolute"),
        ({"Mounts": [{"Type": "tmpfs", "Target": "/"}]}, "destination can't be '/'"),
        ({"Mounts": [{"Type": "tmpfs", "Source": "/a", "Target": "/b"}]}, "must not be specified"),
        (
            {"Mounts": [{"Type": "tmpfs", "Target": "/b", "BindOptions": {}}]},
            "BindOptions must not be specified",
        ),
        (
            {"Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b",
                         "BindOptions": {"ReadOnlyForceRecursive": True}}]},
            "needs ReadOnly",
        ),
        ({"Tmpfs": {"/a": "mode=9"}}, "mode is octal"),
        ({"Tmpfs": {"/a": "size=x"}}, "tmpfs option size: invalid size: 'x'"),
    ],
)  # fmt: skip
def test_refused_host_configs(host: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message.replace("(", r"\(")):
        request(HostConfig=host)


def test_healthcheck_times() -> None:
    assert request(Healthcheck={"Test": ["NONE"]}).config.healthcheck is not None
    with pytest.raises(InvalidInput, match="Interval in Healthcheck cannot be less than 1ms"):
        request(Healthcheck={"Interval": 5})


def test_endpoints() -> None:
    body = {"EndpointsConfig": {"none": {"Aliases": [], "MacAddress": "x", "IPAMConfig": None}}}
    found = request(NetworkingConfig=body).endpoints[0]
    assert (found.network, found.aliases, found.mac_address) == ("none", (), "x")


def test_what_an_endpoint_asks_for() -> None:
    asked = {
        "IPAMConfig": {"IPv4Address": "10.9.0.5", "IPv6Address": "fd00::5"},
        "Aliases": ["db"], "Links": ["web:www"], "GwPriority": 3,
    }  # fmt: skip
    found = request(NetworkingConfig={"EndpointsConfig": {"backend": asked}}).endpoints[0]
    assert (found.ipv4_address, found.ipv6_address) == ("10.9.0.5", "fd00::5")
    assert (found.aliases, found.links, found.gateway_priority) == (("db",), ("web:www",), 3)


def test_an_address_that_compose_says_twice_is_no_reason_to_warn() -> None:
    asked = {"IPAMConfig": {"IPv4Address": "10.9.0.5"}, "IPAddress": "10.9.0.5"}
    for body, warned in ((asked, 0), ({"IPAddress": "10.9.0.5"}, 1)):
        _, warnings = decode(json.dumps({"EndpointConfig": body}).encode(), ConnectBody)
        assert len(warnings) == warned


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"Env": ["a=\\u0000"]}', "Env: text must not contain NUL"),
        (b'{"Labels": {"a\\u0000": ""}}', "Labels: text must not contain NUL"),
        (b'{"HostConfig": {"Memory": 9223372036854775808}}', "Memory: .* 64 bits"),
        (b'{"HostConfig": {"Ulimits": [{"Soft": -99999999999999999999}]}}', "64 bits"),
        (b'{"Image": "\\ud800"}', "invalid JSON"),
    ],
)
def test_values_no_system_call_takes(body: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        decode(body, CreateBody)


def test_an_escaped_backslash_is_no_nul() -> None:
    assert request(Env=["a=\\u0000"]).config.env == ("a=\\u0000",)


def test_exec_needs_a_command() -> None:
    with pytest.raises(InvalidInput, match="No exec command specified"):
        to_exec(ExecBody())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Image", "HostConfig", "Mounts", "Binds", "Cmd", "PortBindings", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.data())
def test_damaged_json_is_refused_in_words(value: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps(value).encode())
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    message = ""
    try:
        decode(bytes(body), CreateBody)
    except InvalidInput as error:
        message = str(error)
    assert message == "" or message.isprintable()


def test_text_that_is_not_utf_8() -> None:
    for body in (b'{"Image": "\xff"}', b'{"\xff": 1}', b"\xff"):
        with pytest.raises(InvalidInput, match="invalid JSON"):
            decode(body, CreateBody)


@given(JSON)
def test_any_json_is_taken_or_refused_in_words(value: Any) -> None:
    try:
        found, warnings = decode(json.dumps(value).encode(), CreateBody)
        to_request(found, name="", platform="", warnings=warnings)
    except InvalidInput:
        return


# Mounts


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/a:/b", MountRequest("bind", "/b", "/a", create_source=True)),
        ("/a/:/b/:ro", MountRequest("bind", "/b", "/a", read_only=True, create_source=True)),
        ("vol:/b", MountRequest("volume", "/b", "vol")),
        ("vol:/b:ro,nocopy", MountRequest("volume", "/b", "vol", read_only=True, no_copy=True)),
        ("/b", MountRequest("volume", "/b")),
        ("/b:ro", MountRequest("volume", "/b", read_only=True)),
        (
            "/a:/b:rslave,Z,cached",
            MountRequest("bind", "/b", "/a", propagation="rslave", relabel="Z", create_source=True),
        ),
        (
            "/a:/b:bind-nonrecursive",
            MountRequest("bind", "/b", "/a", non_recursive=True, create_source=True),
        ),
    ],
)
def test_binds(text: str, mount: MountRequest) -> None:
    assert parse_bind(text) == mount


@pytest.mark.parametrize(
    "text",
    ["", ":", "a:", ":/b", "/a:b", "/a:/", "/a:/b:bogus", "/a:/b:ro,rw", "/a:/b:ro:x", "./a:/b",
     "vol:/b:rslave", "/a:/b:nocopy", "a/b:/c", "/a:/b:", "/a:/.."],
)  # fmt: skip
def test_bad_binds(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid volume specification"):
        parse_bind(text)


def test_tmpfs() -> None:
    found = parse_tmpfs("/t", "size=64m,mode=1770,ro,noexec")
    assert (found.tmpfs_size, found.tmpfs_mode, found.read_only) == (64 << 20, 0o1770, True)
    assert found.tmpfs_options == ("noexec",)


# Ports


def test_port_forms() -> None:
    bindings = request(
        HostConfig={
            "PortBindings": {
                "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8000-8010"}, {"HostPort": ""}],
                "53/udp": None,
                "90-91": [{"HostPort": "1"}],
            }
        }
    ).host.port_bindings
    assert bindings == (
        PortBinding(80, "tcp", "0.0.0.0", 8000, 8010),
        PortBinding(80, "tcp"),
        PortBinding(53, "udp"),
        PortBinding(90, "tcp", "", 1),
        PortBinding(91, "tcp", "", 1),
    )


def test_port_views() -> None:
    bound = (PortBinding(80, "tcp", "127.0.0.1", 8080),)
    assert port_map(bound, ("81/tcp",)) == {
        "81/tcp": None,
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
    }
    assert port_list(bound, ("80/tcp", "81/udp")) == [
        {"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 81, "Type": "udp"},
    ]


# Round trip


def test_inspect_shows_what_was_asked() -> None:
    host = {
        "Binds": ["/a:/b:ro"],
        "CapAdd": ["NET_BIND_SERVICE"],
        "Mounts": [
            {"Type": "bind", "Source": "/x", "Target": "/y", "ReadOnly": True},
            {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 5, "Mode": 511}},
        ],
        "Tmpfs": {"/u": "noexec"},
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
        "Sysctls": {"net.core.somaxconn": "5"},
        "Memory": 5,
    }
    shown = from_host_config(request(HostConfig=host).host)
    for name in ("Binds", "CapAdd", "PortBindings", "Sysctls", "Memory", "Tmpfs"):
        assert shown[name] == host[name]
    again = request(HostConfig=shown)
    assert again.host.mounts == request(HostConfig=host).host.mounts
    assert shown["CapDrop"] is None
    assert shown["Dns"] == []


def test_config_leaves_out_what_is_not_set() -> None:
    shown = from_config(request(Image="a", StopTimeout=0).config)
    assert shown["Cmd"] is None
    assert shown["StopTimeout"] == 0
    assert not {"ExposedPorts", "Healthcheck", "ArgsEscaped", "StopSignal", "Shell"} & shown.keys()
    assert "Hostname" not in from_config(request(Image="a").config, image=True)


# Texts


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (ContainerState(), "Created"),
        (ContainerState("running", started_ns=1), "Up 3 minutes"),
        (ContainerState("paused", started_ns=1), "Up 3 minutes (Paused)"),
        (
            ContainerState("running", started_ns=1, health=Health("healthy")),
            "Up 3 minutes (healthy)",
        ),
        (
            ContainerState("running", started_ns=1, health=Health()),
            "Up 3 minutes (health: starting)",
        ),
        (
            ContainerState("exited", exit_code=3, started_ns=1, finished_ns=170 * SECOND),
            "Exited (3) 10 seconds ago",
        ),
        (
            ContainerState("restarting", exit_code=1, started_ns=1, finished_ns=180 * SECOND),
            "Restarting (1) Less than a second ago",
        ),
        (ContainerState("dead"), "Dead"),
        (ContainerState("removing"), "Removal In Progress"),
    ],
)
def test_status(state: ContainerState, text: str) -> None:
    assert status_text(state, 180 * SECOND + 1) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"),
        (119, "About a minute"), (120, "2 minutes"), (3599, "59 minutes"), (3600, "About an hour"),
        (2 * 3600, "2 hours"), (47 * 3600, "47 hours"), (48 * 3600, "2 days"),
        (13 * 86400, "13 days"), (14 * 86400, "2 weeks"), (59 * 86400, "8 weeks"),
        (60 * 86400, "2 months"), (729 * 86400, "24 months"), (730 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert human_duration(int(seconds * SECOND)) == text


def test_times() -> None:
    moment = 1_700_000_000_120_000_000
    assert rfc3339(moment) == "2023-11-14T22:13:20.12Z"
    assert rfc3339(1_700_000_000 * SECOND) == "2023-11-14T22:13:20Z"
    assert rfc3339(0) == "0001-01-01T00:00:00Z"
    assert rfc3339_fixed(moment) == "2023-11-14T22:13:20.120000000Z"
    for text in ("1700000000.12", "2023-11-14T22:13:20.12Z", "2023-11-14T23:13:20.12+01:00"):
        assert parse_query_time("since", text) == moment
    assert parse_query_time("since", "") == 0
    for text in ("yesterday", "2023-13-01", "1.x"):
        with pytest.raises(InvalidInput, match="since"):
            parse_query_time("since", text)


def test_progress_error() -> None:
    assert progress(Progress(error="no", error_code=5)) == {
        "errorDetail": {"message": "no", "code": 5},
        "error": "no",
    }
    assert progress(Progress(aux=(("Size", "5"), ("Digest", "d")))) == {
        "aux": {"Size": 5, "Digest": "d"}
    }


@pytest.mark.parametrize(
    ("mode", "value"),
    [(0o100644, 0o644), (0o040755, 1 << 31 | 0o755), (0o120777, 1 << 27 | 0o777),
     (0o104755, 1 << 23 | 0o755), (0o020666, 1 << 26 | 1 << 21 | 0o666)],
)  # fmt: skip
def test_go_modes(mode: int, value: int) -> None:
    assert go_mode(mode) == value


def test_mount_of_a_volume_keeps_its_options() -> None:
    mount = {
        "Type": "volume", "Source": "v", "Target": "/v",
        "VolumeOptions": {"NoCopy": True, "Subpath": "s", "Labels": {"a": "b"},
                          "DriverConfig": {"Name": "local", "Options": {"o": "1"}}},
    }  # fmt: skip
    found = request(HostConfig={"Mounts": [mount]}).host.mounts[0]
    assert found == replace(
        MountRequest("volume", "/v", "v", no_copy=True, subpath="s", volume_driver="local"),
        volume_labels=(("a", "b"),),
        volume_options=(("o", "1"),),
    )
