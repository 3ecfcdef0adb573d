"""daemon.json: conversion, defaults and complaints."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless.daemon.config import (
    DaemonConfig,
    complete,
    default_paths,
    load_config,
    parse_config,
    reloaded,
)
from rootless.errors import InvalidInput
from rootless.model.request import RlimitRequest


def test_docker_keys_are_read() -> None:
    config = parse_config(
        '{"data-root": "/d", "hosts": ["unix:///x.sock"], "storage-driver": "overlay2",'
        '"insecure-registries": ["r:5000"], "log-opts": {"max-size": "10m"},'
        '"default-shm-size": "128m", "max-concurrent-downloads": 7, "debug": true,'
        '"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}}}'
    )
    assert config.data_root == "/d"
    assert config.hosts == ("unix:///x.sock",)
    assert config.storage_driver == "overlay"
    assert config.insecure_registries == ("r:5000",)
    assert config.log_opts == (("max-size", "10m"),)
    assert config.default_shm_size == 128 << 20
    assert config.max_concurrent_downloads == 7
    assert config.debug
    assert config.default_ulimits == (RlimitRequest("nofile", 1, 2),)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('{"storage-drivr": "vfs"}', "unknown key 'storage-drivr'", "storage-driver"),
        ('{"debug": "yes"}', "debug must be true or false", None),
        ('{"max-concurrent-downloads": true}', "must be a number", None),
        ('{"dns": ["1.1.1.1", 5]}', "must be a list of strings", None),
        ('{"hosts": ["tcp://0.0.0.0:2375"]}', "not supported", "unix"),
        ('{"debug": true, "debug": false}', "given twice", None),
        ('{"debug": true,}', "daemon.json:1:", None),
        ("[]", "must be a JSON object", None),
        ('{"log-driver": "syslog"}', "log-driver 'syslog'", "json-file"),
        ('{"max-download-attempts": 0}', "at least 1", None),
        ('{"bogus": 1}', "daemon.json: unknown key 'bogus'", "default-shm-size, "),
        ('{"default-shm-size": "x"}', 'default-shm-size must be a size, not "x"', "64m"),
        ('{"default-shm-size": true}', "must be a size, not true", None),
        ('{"dns": ["x"]}', "dns: 'x' is not an IP address", None),
        ('{"ip": "x"}', "ip: 'x' is not an IP address", None),
        ('{"host-gateway-ip": "x"}', "host-gateway-ip: 'x' is not an IP address", None),
        ('{"data-root": "rel"}', "data-root 'rel' is not an absolute path", None),
        ('{"log-opts": {"max-size": "x"}}', "log-opts: log opt max-size: invalid size", "number"),
        ('{"log-opts": {"nope": "1"}}', "log-opts: unknown log opt 'nope'", None),
        ('{"registry-mirrors": ["x y"]}', "registry-mirrors: 'x y' is not a URL", "https"),
        ('{"default-network": "lan"}', "default-network 'lan' is unknown", "slirp4netns"),
        ('{"default-ulimits": {"nofile": {"Soft": 2, "Hard": 1}}}', "soft 2 is above hard 1", None),
        ('{"default-ulimits": {"nofile": {"Soft": "2", "Hard": 1}}}', "must be a number", None),
    ],
)
def test_complaints_name_the_key_and_the_fix(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_config(text)
    assert message in caught.value.message
    if hint is not None:
        assert hint in (caught.value.hint or "")


def test_paths_follow_xdg(tmp_path: Path) -> None:
    config = complete(
        DaemonConfig(), {"HOME": "/h", "XDG_DATA_HOME": "/data", "XDG_RUNTIME_DIR": str(tmp_path)}
    )
    assert config.data_root == "/data/rootless"
    assert config.hosts == (f"unix://{tmp_path}/rootless/rootless.sock",)
    assert default_paths({"HOME": "/h", "XDG_RUNTIME_DIR": "/r"})[0] == Path(
        "/h/.local/share/rootless"
    )


def test_absent_file_is_fine_unless_named(tmp_path: Path) -> None:
    missing = tmp_path / "daemon.json"
    assert load_config(missing, required=False).config_file == str(missing)
    with pytest.raises(InvalidInput, match="no such configuration file"):
        load_config(missing, required=True)


def test_reload_takes_what_it_can_and_names_the_rest() -> None:
    running = DaemonConfig(data_root="/a", debug=False)
    taken, ignored = reloaded(running, DaemonConfig(data_root="/b", debug=True))
    assert taken.debug
    assert taken.data_root == "/a"
    assert ignored == ("data-root",)
