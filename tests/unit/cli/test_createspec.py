"""Words of run's flags: ports, volumes, mounts, devices, limits, files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rootless.cli import createspec as spec
from rootless.cli.command import Invocation
from rootless.cli.commands.run import COMMAND
from rootless.cli.createbody import create_body
from rootless.cli.flags import UsageError, parse
from rootless.cli.mountspec import parse_mount


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


def body(*words: str, detach: bool = False) -> dict[str, Any]:
    parsed = parse(COMMAND.flags, list(words), interspersed=False)
    call = Invocation(COMMAND, parsed.values, parsed.given, parsed.args, None)
    return create_body(call, detach=detach)


def host(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = body(*words, "img")["HostConfig"]
    return found


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", {"80/tcp": ("", "")}),
        ("8080:80", {"80/tcp": ("", "8080")}),
        ("8080:80/udp", {"80/udp": ("", "8080")}),
        ("127.0.0.1:8080:80", {"80/tcp": ("127.0.0.1", "8080")}),
        ("127.0.0.1::80", {"80/tcp": ("127.0.0.1", "")}),
        ("[::1]:8080:80", {"80/tcp": ("::1", "8080")}),
        ("::1:8080:80", {"80/tcp": ("::1", "8080")}),
        ("8080-8081:80-81", {"80/tcp": ("", "8080"), "81/tcp": ("", "8081")}),
        ("8000-8010:80", {"80/tcp": ("", "8000-8010")}),
        ("80-81", {"80/tcp": ("", ""), "81/tcp": ("", "")}),
        ("0:80", {"80/tcp": ("", "0")}),
        ("published=8080,target=80,protocol=sctp", {"80/sctp": ("", "8080")}),
    ],
)
def test_publish(text: str, ports: dict[str, tuple[str, str]]) -> None:
    found = {key: (value["HostIp"], value["HostPort"]) for key, value in spec.parse_publish(text)}
    assert found == ports


@pytest.mark.parametrize(
    "text",
    ["", "x", "80:", ":", "80/icmp", "1-3:1-2", "70000", "0", "2-1", "300.1.1.1:80:80", "[::1:80"],
)
def test_publish_refused(text: str) -> None:
    with pytest.raises(UsageError):
        spec.parse_publish(text)


def test_ports_are_exposed_and_bound() -> None:
    found = body("-p", "8080:80", "-p", "127.0.0.1:1:80", "--expose", "53/udp", "img")
    assert found["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert found["HostConfig"]["PortBindings"] == {
        "80/tcp": [
            {"HostIp": "", "HostPort": "8080"},
            {"HostIp": "127.0.0.1", "HostPort": "1"},
        ]
    }


def test_volumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = body("-v", "./x:/a:ro", "-v", "data:/b", "-v", "/c", "-v", "/h:/d:z,ro", "img")
    assert found["HostConfig"]["Binds"] == [f"{tmp_path}/x:/a:ro", "data:/b", "/h:/d:z,ro"]
    assert found["Volumes"] == {"/c": {}}


@pytest.mark.parametrize("text", ["", ":/a", "a:", "a:b", "a:/", "/", "x", "a:/b:c", "a:/b:ro:x"])
def test_volumes_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid"):
        spec.parse_volume(text)


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        (
            "type=bind,src=/a,dst=/b,ro",
            {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True},
        ),
        ("target=/b", {"Type": "volume", "Target": "/b"}),
        (
            'type=volume,src=v,dst=/b,volume-label=a=b,"volume-opt=o=x,y"',
            {
                "Type": "volume",
                "Source": "v",
                "Target": "/b",
                "VolumeOptions": {"Labels": {"a": "b"}, "DriverConfig": {"Options": {"o": "x,y"}}},
            },
        ),
        (
            "type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770",
            {
                "Type": "tmpfs",
                "Target": "/t",
                "TmpfsOptions": {"SizeBytes": 64 << 20, "Mode": 0o1770},
            },
        ),
        (
            "type=bind,src=/a,dst=/b,readonly=false,bind-propagation=rslave",
            {
                "Type": "bind",
                "Source": "/a",
                "Target": "/b",
                "ReadOnly": False,
                "BindOptions": {"Propagation": "rslave"},
            },
        ),
        (
            "type=bind,src=/a,dst=/b,bind-recursive=disabled",
            {"Type": "bind", "Source": "/a", "Target": "/b", "BindOptions": {"NonRecursive": True}},
        ),
        (
            "type=image,src=i,dst=/b,image-subpath=x",
            {"Type": "image", "Source": "i", "Target": "/b", "ImageOptions": {"Subpath": "x"}},
        ),
    ],
)
def test_mount(text: str, mount: dict[str, Any]) -> None:
    assert parse_mount(text) == mount


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a key=value pair"),
        ("type=nfs,dst=/a", "invalid mount type 'nfs'"),
        ("type=bind,dst=/a", "source is required"),
        ("type=bind,src=/a", "target is required"),
        ("type=bind,src=/a,dst=b", "must be absolute"),
        ("type=tmpfs,src=/a,dst=/b", "source must not be set"),
        ("dst=/a,foo=1", "unknown option 'foo'"),
        ("dst=/a,volume-foo=1", "unknown option 'volume-foo'"),
        ("type=bind,src=/a,dst=/b,tmpfs-size=1", "cannot mix 'tmpfs-"),
        ("type=tmpfs,dst=/a,tmpfs-size=x", "invalid value for tmpfs-size"),
        ("dst=/a,ro=perhaps", "invalid value for ro"),
        ("type=bind,src=/a,dst=/b,bind-recursive=readonly", "requires 'readonly'"),
        ('dst=/a,"x', "invalid --mount"),
    ],
)
def test_mount_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_mount(text)


def test_small_words() -> None:
    assert spec.parse_device("/dev/fuse") == {
        "PathOnHost": "/dev/fuse",
        "PathInContainer": "/dev/fuse",
        "CgroupPermissions": "rwm",
    }
    assert spec.parse_device("/dev/a:/dev/b:r")["PathInContainer"] == "/dev/b"
    assert spec.parse_device("/dev/a:rw")["CgroupPermissions"] == "rw"
    assert spec.parse_ulimit("nofile=1:2") == {"Name": "nofile", "Soft": 1, "Hard": 2}
    assert spec.parse_ulimit("core=unlimited") == {"Name": "core", "Soft": -1, "Hard": -1}
    assert spec.parse_restart("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert spec.parse_rate("/dev/sda:1mb", size=True) == {"Path": "/dev/sda", "Rate": 1 << 20}
    for wrong in ("dev", "/dev/a:/b:c:d", "/dev/a:x"):
        if wrong != "/dev/a:x":
            with pytest.raises(UsageError):
                spec.parse_device(wrong)
    for wrong in ("x", "nofile=2:1", "nofile=a"):
        with pytest.raises(UsageError):
            spec.parse_ulimit(wrong)
    for wrong in ("sometimes", "always:3", "on-failure:x"):
        with pytest.raises(UsageError):
            spec.parse_restart(wrong)


def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HERE", "1")
    monkeypatch.delenv("GONE", raising=False)
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=1\n  B=two words\nHERE\nGONE\n")
    assert spec.environment([str(file)], ["A=2", "C="], ["A=0"]) == [
        "A=2",
        "B=two words",
        "HERE=1",
        "C=",
    ]
    file.write_text("A B=1\n")
    with pytest.raises(UsageError, match="env:1"):
        spec.environment([str(file)], [], [])
    with pytest.raises(UsageError, match="cannot read the env file"):
        spec.environment([str(tmp_path / "none")], [], [])


def test_a_seccomp_file_is_sent_as_its_content(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text('{\n "defaultAction": "SCMP_ACT_ERRNO"\n}')
    options = ["no-new-privileges", f"seccomp={profile}", "seccomp-log", "label:disable"]
    assert spec.security_options(options) == [
        "no-new-privileges",
        'seccomp={"defaultAction":"SCMP_ACT_ERRNO"}',
        "seccomp-log",
        "label=disable",
    ]
    assert spec.security_options(["seccomp=unconfined"]) == ["seccomp=unconfined"]
    profile.write_text("nope")
    with pytest.raises(UsageError, match="not JSON"):
        spec.security_options([f"seccomp={profile}"])


def test_only_what_was_asked_for_is_sent() -> None:
    assert body("img") == {
        "Image": "img",
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": False,
        "StdinOnce": False,
        "Tty": False,
        "HostConfig": {},
    }


def test_attachments() -> None:
    found = body("-i", "img")
    assert (found["AttachStdin"], found["OpenStdin"], found["StdinOnce"]) == (True, True, True)
    found = body("-i", "img", detach=True)
    assert (found["AttachStdin"], found["OpenStdin"], found["StdinOnce"]) == (False, True, False)
    found = body("-a", "STDERR", "img")
    assert (found["AttachStdout"], found["AttachStderr"]) == (False, True)
    with pytest.raises(UsageError, match="--attach and --detach"):
        body("-a", "stdout", "img", detach=True)


def test_sandbox_fields() -> None:
    found = host(
        "--cap-add=NET_RAW",
        "--read-only",
        "--userns",
        "auto:size=9",
        "--storage-driver",
        "vfs",
        "--timens",
        "--timeout",
        "90",
        "--cpus",
        "2",
        "--init",
        "--dns-option",
        "x",
        "--sysctl",
        "a.b=1",
        "--log-opt",
        "max-size=1m",
        "--tmpfs",
        "/t:size=1m",
        "--security-opt",
        "systempaths=unconfined",
        "--pids-limit",
        "0",
    )
    assert found == {
        "CapAdd": ["NET_RAW"],
        "ReadonlyRootfs": True,
        "UsernsMode": "auto:size=9",
        "StorageDriver": "vfs",
        "TimeNamespace": True,
        "Timeout": 90,
        "NanoCpus": 2 * 10**9,
        "Init": True,
        "DnsOptions": ["x"],
        "Sysctls": {"a.b": "1"},
        "LogConfig": {"Type": "", "Config": {"max-size": "1m"}},
        "Tmpfs": {"/t": "size=1m"},
        "MaskedPaths": [],
        "ReadonlyPaths": [],
        "SecurityOpt": [],
        "PidsLimit": 0,
    }


def test_entrypoint_and_command() -> None:
    found = body("--entrypoint", "sh", "img", "-c", "true")
    assert (found["Entrypoint"], found["Cmd"]) == (["sh"], ["-c", "true"])
    assert body("--entrypoint", "", "img")["Entrypoint"] == [""]


def test_networks() -> None:
    found = body("--network", "none", "img")
    assert found["HostConfig"]["NetworkMode"] == "none"
    assert "NetworkingConfig" not in found
    found = body("--network", "name=n1,alias=a,ip=10.0.0.2", "--network-alias", "b", "img")
    assert found["NetworkingConfig"]["EndpointsConfig"] == {
        "n1": {"Aliases": ["b"], "IPAMConfig": {"IPv4Address": "10.0.0.2"}}
    }


def test_health() -> None:
    found = body("--health-cmd", "x", "--health-retries", "2", "--health-timeout", "3s", "img")
    assert found["Healthcheck"] == {"Test": ["CMD-SHELL", "x"], "Timeout": 3 * 10**9, "Retries": 2}
    assert body("--no-healthcheck", "img")["Healthcheck"] == {"Test": ["NONE"]}
    with pytest.raises(UsageError, match="conflicts"):
        body("--no-healthcheck", "--health-cmd", "x", "img")


@pytest.mark.parametrize(
    "words",
    [["--gpus", "all"], ["--kernel-memory", "1m"], ["--disable-content-trust=false"]],
)
def test_what_cannot_be_kept_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError, match="not supported"):
        body(*words, "img")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-l", "=x"], "invalid label '=x': empty name"),
        (["--label-file", "/nonexistent/l"], "cannot read the label file /nonexistent/l"),
        (["--env-file", "/nonexistent/e"], "cannot read the env file /nonexistent/e"),
        (["--security-opt", "seccomp"], 'invalid --security-opt: "seccomp"'),
        (["--security-opt", "seccomp="], 'invalid --security-opt: "seccomp="'),
        (["--log-driver", "none", "--log-opt", "max-size=1m"], "invalid logging opts"),
    ],
)
def test_what_says_nothing_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        body(*words, "img")


def test_the_same_volume_twice_is_one() -> None:
    assert host("-v", "/a:/b", "-v", "/a:/b")["Binds"] == ["/a:/b"]


def test_rm_and_restart_conflict() -> None:
    with pytest.raises(UsageError, match="--restart and --rm"):
        body("--rm", "--restart", "always", "img")
