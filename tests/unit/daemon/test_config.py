"""daemon.json and flags: conversion, defaults, conflicts and complaints."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.daemon import commandline
from rootless.daemon.config import DaemonConfig, check_config, default_paths
from rootless.daemon.hosts import parse
from rootless.daemon.options import OPTIONS
from rootless.daemon.refusals import REFUSALS
from rootless.daemon.reload import attributes, reloaded
from rootless.daemon.sources import configuration, load, parse_file
from rootless.errors import InvalidInput, RootlessError
from rootless.model.pools import AddressPool
from rootless.model.request import RlimitRequest


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Where a configuration is looked for."""
    return {
        "HOME": "/h",
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_DATA_HOME": "/data",
        "XDG_RUNTIME_DIR": str(tmp_path),
    }


def configured(environ: dict[str, str], text: str, *words: str) -> DaemonConfig:
    """The configuration of a daemon.json and a command line."""
    file = Path(environ["XDG_CONFIG_HOME"]) / "rootless/daemon.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return load(commandline.read(words, environ).flags, environ)


def test_docker_keys_are_read(environ: dict[str, str]) -> None:
    config = configured(
        environ,
        '{"data-root": "/d", "hosts": ["unix:///x.sock"], "storage-driver": "overlay2",'
        '"insecure-registries": ["r:5000"], "log-opts": {"max-size": "10m"},'
        '"default-shm-size": "128m", "max-concurrent-downloads": 7, "debug": true,'
        '"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}},'
        '"default-address-pools": [{"base": "10.1.0.0/16", "size": 24}],'
        '"proxies": {"http-proxy": "http://p:1", "no-proxy": "x"}, "host-gateway-ip": "10.0.0.1"}',
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
    assert config.default_address_pools == (AddressPool("10.1.0.0/16", 24),)
    assert config.proxies == (("http-proxy", "http://p:1"), ("no-proxy", "x"))
    assert config.host_gateway_ips == ("10.0.0.1",)


def test_flags_say_the_same_as_keys(environ: dict[str, str]) -> None:
    words = (
        "--data-root=/d -H unix:///x.sock -Hunix:///y.sock -s overlay2 --insecure-registry r:5000 "
        "--log-opt max-size=10m --log-opt max-file=2 --default-shm-size 128m -D --ipv6=false "
        "--max-concurrent-downloads=7 --default-ulimit nofile=1:2 --default-ulimit nproc=5 "
        "--default-address-pool base=10.1.0.0/16,size=24 --http-proxy http://p:1 --dns 10.0.0.1 "
        "--host-gateway-ip 10.0.0.1 --label a=b --label c=d --feature buildkit=false -l warn"
    )
    config = configured(environ, "", *words.split())
    assert config.hosts == ("unix:///x.sock", "unix:///y.sock")
    assert config.storage_driver == "overlay"
    assert config.log_opts == (("max-size", "10m"), ("max-file", "2"))
    assert config.default_shm_size == 128 << 20
    assert config.debug
    assert not config.ipv6
    assert config.max_concurrent_downloads == 7
    assert config.default_ulimits == (RlimitRequest("nofile", 1, 2), RlimitRequest("nproc", 5, 5))
    assert config.default_address_pools == (AddressPool("10.1.0.0/16", 24),)
    assert config.http_proxy == "http://p:1"
    assert config.labels == ("a=b", "c=d")
    assert config.features == (("buildkit", False),)
    assert config.log_level == "warn"


def test_each_setting_is_either_a_flag_or_a_key(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        configured(
            environ,
            '{"debug": false, "hosts": ["fd://"], "labels": ["a=b"], "ip": "::1",'
            '"host-gateway-ip": "10.0.0.1", "log-opts": {"max-size": "1m"},'
            '"proxies": {"http-proxy": "http://u:secret@p"}}',
            *"-D -H unix:///x --label c=d --label e=f --host-gateway-ip=10.0.0.2".split(),
            *"--log-opt max-file=2 --http-proxy http://u:hidden@q".split(),
        )
    message = caught.value.message
    assert (
        "the following directives are specified both as a flag and in the configuration file: "
    ) in message
    for part in (
        "debug: (from flag: true, from file: false)",
        "hosts: (from flag: [unix:///x], from file: [fd://])",
        "labels: (from flag: [c=d e=f], from file: [a=b])",
        "host-gateway-ip: (from flag: [10.0.0.2], from file: 10.0.0.1)",
        "log-opts: (from flag: map[max-file:2], from file: map[max-size:1m])",
        "http-proxy: (from flag: xxxxx, from file: xxxxx)",
    ):
        assert part in message
    assert "ip:" not in message.replace("host-gateway-ip:", "")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('{"storage-drivr": "vfs"}', "don't match any configuration option: storage-drivr",
         "storage-driver"),
        ('{"debug": "yes"}', 'debug must be true or false, not "yes"', None),
        ('{"max-concurrent-downloads": true}', "must be a number", None),
        ('{"max-concurrent-downloads": 1e3}', "must be a number of 32 bits, not 1000.0", None),
        ('{"shutdown-timeout": 99999999999}', "must be a number of 32 bits", None),
        ('{"shutdown-timeout": ' + "9" * 5000 + "}", "a number is too long", None),
        ('{"data-root": "/a\\u0000b"}', "a text holds NUL", None),
        ('{"labels": ["a=\\ud800"]}', "half of a surrogate pair", None),
        ('{"dns": ["1.1.1.1", 5]}', "must be a list of strings", None),
        ('{"hosts": ["ftp://h"]}', "invalid bind address (ftp://h): unsupported proto 'ftp'",
         "unix"),
        ('{"hosts": ["unix://x"]}', "not an absolute path", "unix:///x"),
        ('{"hosts": ["tcp://h:0"]}', "invalid port: 0", None),
        ('{"hosts": ["tcp://h:1/x"]}', "should not contain a path element", None),
        ('{"hosts": ["tcp://::1:2"]}', "an IPv6 address stands in brackets", "[::1]"),
        ('{"debug": true, "debug": false}', "given twice", None),
        ('{"debug": true,}', "daemon.json:1:", None),
        ("[]", "must be a JSON object", None),
        ("[" * 100_000, "nested too deeply", None),
        ('{"log-driver": "syslogg"}', "log-driver: logger: no log driver named 'syslogg'", None),
        ('{"max-download-attempts": 0}', "must be at least 1", None),
        ('{"bogus": 1}', "don't match any configuration option: bogus", "--help"),
        ('{"default-shm-size": "x"}', 'default-shm-size must be a size', None),
        ('{"default-shm-size": true}', "must be a size", None),
        ('{"default-shm-size": 0}', "must be at least 1", None),
        ('{"dns": ["x"]}', "dns: 'x' is not an IP address", None),
        ('{"dns-search": ["a b"]}', "invalid dns-search: 'a b'", None),
        ('{"dns-opts": ["a\\nnameserver 192.0.2.1"]}', "invalid dns-opts", None),
        ('{"ip": "x"}', "ip: 'x' is not an IP address", None),
        ('{"host-gateway-ip": "x"}', "host-gateway-ips: 'x' is not an IP address", None),
        ('{"host-gateway-ips": ["10.0.0.1", "10.0.0.2"]}', "only one address of each family", None),
        ('{"host-gateway-ips": [], "host-gateway-ip": "::1"}', "must not both be specified", None),
        ('{"data-root": "rel"}', "data-root 'rel' is not an absolute path", None),
        ('{"log-opts": {"max-size": "x"}}', "log-opts: ", None),
        ('{"log-opts": {"max-size": 5}}', "log-opts must be an object of strings", None),
        ('{"registry-mirrors": ["x y"]}', "registry-mirrors: 'x y' is not a URL", "https"),
        ('{"registry-mirrors": ["https://m/x"]}', "has no path", "https://m"),
        ('{"registry-mirrors": ["https://u:p@m"]}', "do not belong into the URL", "login"),
        ('{"insecure-registries": ["http://r"]}', "should not contain '://'", "r"),
        ('{"insecure-registries": ["10.0.0.0/99"]}', "insecure-registries: '10.0.0.0/99'", None),
        ('{"default-network": "lan"}', "default-network 'lan' is unknown", "slirp4netns"),
        ('{"default-ulimits": {"nofile": {"Soft": 2, "Hard": 1}}}', "soft 2 is above hard 1", None),
        ('{"default-ulimits": {"nofile": {"Soft": "2", "Hard": 1}}}', "must be a number", None),
        ('{"default-ulimits": {"nofiles": {"Soft": 1, "Hard": 1}}}', "invalid ulimit type",
         "nofile"),
        ('{"labels": ["x"]}', "bad attribute format: x", "NAME=VALUE"),
        ('{"labels": ["a=1", "a=2"]}', "conflict labels for a=2 and a=1", None),
        ('{"default-address-pools": [{"base": "10.0.0.0/16", "size": 8}]}',
         "invalid pool size: 8", None),
        ('{"default-address-pools": [{"base": "10.0.0.1/16", "size": 24}]}',
         "invalid base pool '10.0.0.1/16'", None),
        ('{"default-address-pools": [{"base": "10.0.0.0/8", "size": 24},'
         '{"base": "10.1.0.0/16", "size": 24}]}', "overlap", None),
        ('{"default-address-pools": [{"base": "10.0.0.0/8"}]}', "needs base and size", None),
        ('{"http-proxy": "http://p"}', "http-proxy belongs into the object proxies", "proxies"),
        ('{"proxies": {"ftp-proxy": "x"}}', "proxies has no key 'ftp-proxy'", "http-proxy"),
        ('{"proxies": {"http-proxy": "p:8080"}}', "http-proxy is not a URL", None),
        ('{"proxies": {"http-proxy": "http://["}}', "http-proxy is not a URL", None),
        ('{"registry-mirrors": ["https://m:port"]}', "is not a URL", None),
        ('{"features": {"buildkit": true}}', "buildkit cannot be on", None),
        ('{"features": {"bildkit": false}}', "features: 'bildkit' is unknown", "buildkit"),
        ('{"exec-opts": ["native.cgroupdriver=systemd"]}', "invalid exec-opt", "cgroupfs"),
        ('{"exec-opts": ["x=y"]}', "unknown option: 'x'", None),
        ('{"bridge": "docker0"}', "only root can join containers to it", "none"),
        ('{"bridge": "none", "default-network": "host"}', "contradict each other", None),
        ('{"seccomp-profile": "unconfined"}', "without a system call filter", "--security-opt"),
        ('{"userns-remap": "root"}', "only your own subordinate ids", None),
        ('{"mtu": 70000}', "mtu must be at most 65521", None),
        ('{"log-level": "loud"}', "log-level 'loud' is unknown", "debug"),
        ('{"default-runtime": "kata"}', "default-runtime 'kata' is unknown", "rootless"),
        ('{"min-api-version": "1.20"}', "min-api-version", "1.24"),
        ('{"min-api-version": "v1.30"}', "min-api-version", None),
    ],
)  # fmt: skip
def test_complaints_name_the_key_and_the_fix(
    environ: dict[str, str], text: str, message: str, hint: str | None
) -> None:
    with pytest.raises(InvalidInput) as caught:
        configured(environ, text)
    assert message in caught.value.message
    if hint is not None:
        assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--debgu", "unknown flag: --debgu (hint: did you mean --debug?)"),
        ("-D=maybe", 'invalid argument "maybe" for "-D, --debug" flag'),
        ("--dns", "flag needs an argument: --dns"),
        ("--max-concurrent-downloads x", "strconv.ParseInt"),
        ("--default-ulimit nofile", "--default-ulimit: 'nofile' is not NAME=SOFT[:HARD]"),
        ("--default-address-pool base=10.0.0.0/8", "needs base and size"),
        ("--feature buildkit=perhaps", "is not NAME=true or NAME=false"),
        ("--default-shm-size much", "invalid argument for --default-shm-size: invalid size"),
        ("serve", "\"rootlessd\" accepts no arguments, not 'serve'"),
        ("--ipv6 false", "accepts no arguments, not 'false' (hint: a flag takes it after =:"),
        ("--config-file /no/such", "no such configuration file"),
    ],
)
def test_complaints_about_flags(environ: dict[str, str], words: str, message: str) -> None:
    with pytest.raises(RootlessError) as caught:
        configured(environ, "", *words.split())
    assert message in str(caught.value)


def test_what_docker_has_and_this_engine_has_not_is_refused_with_the_reason(
    environ: dict[str, str],
) -> None:
    samples: dict[str, object] = {
        "a string": "x", "a number of 32 bits": 1, "a list of strings": ["x"],
        "an object": {"x": "y"}, "an object of strings": {"x": "y"},
    }  # fmt: skip
    for refusal in REFUSALS:
        value = samples.get(refusal.kind.name, not refusal.holds)
        with pytest.raises(InvalidInput) as caught:
            parse_file(json.dumps({refusal.key: value}))
        assert refusal.reason in caught.value.message
        if not refusal.name:
            continue
        word = f"--{refusal.name}={str(value).lower() if isinstance(value, bool) else '1=1'}"
        with pytest.raises((InvalidInput, RootlessError)) as caught:
            configured(environ, "", word.replace("=1=1", "=1") if value == 1 else word)
        assert refusal.reason in str(caught.value)


def test_what_is_so_anyway_may_be_said(environ: dict[str, str]) -> None:
    for refusal in REFUSALS:
        if refusal.holds is not None:
            parse_file(json.dumps({refusal.key: refusal.holds}))
            configured(environ, "", f"--{refusal.name}={str(refusal.holds).lower()}")
    configured(environ, '{"runtimes": {}, "storage-opts": [], "bip": "", "containerd": ""}')
    mine = pwd.getpwuid(os.getuid()).pw_name
    for name in ("default", mine, f"{mine}:{mine}", str(os.getuid())):
        assert configured(environ, "", f"--userns-remap={name}").userns_remap == name


def test_every_setting_has_a_field_and_every_field_a_setting() -> None:
    fields = set(DaemonConfig.__dataclass_fields__) - {"config_file"}
    assert {option.field for option in OPTIONS} == fields
    names = [entry.name for entry in (*OPTIONS, *REFUSALS) if entry.name]
    keys = [entry.key for entry in (*OPTIONS, *REFUSALS)]
    letters = [entry.letter for entry in (*OPTIONS, *REFUSALS) if entry.letter]
    for found in (names, keys, letters):
        assert len(found) == len(set(found))


def test_the_built_in_seccomp_profile_by_dockers_word(environ: dict[str, str]) -> None:
    assert configured(environ, '{"seccomp-profile": "builtin"}').seccomp_profile == ""
    assert configured(environ, "{}", "--seccomp-profile", "builtin").seccomp_profile == ""


def test_paths_follow_xdg(environ: dict[str, str], tmp_path: Path) -> None:
    config = configured(environ, "")
    assert config.data_root == "/data/rootless"
    assert config.pidfile == f"{tmp_path}/rootless/rootlessd.pid"
    assert config.deprecated_key_path == f"{tmp_path}/rootless/key.json"
    assert config.tlskey == f"{tmp_path}/rootless/tls/key.pem"
    assert default_paths({"HOME": "/h", "XDG_RUNTIME_DIR": "/r"})[0] == Path(
        "/h/.local/share/rootless"
    )


@pytest.mark.parametrize("name", ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"])
def test_relative_xdg_directories_are_refused(environ: dict[str, str], name: str) -> None:
    environ[name] = "here"
    with pytest.raises(InvalidInput, match=f"{name} is 'here', which is not an absolute path"):
        load(commandline.read((), environ).flags, environ)


def test_a_byte_order_mark_and_an_empty_file_are_fine(environ: dict[str, str]) -> None:
    assert configured(environ, '\ufeff{"debug": true}').debug
    assert not configured(environ, " \n").debug


def test_reload_takes_what_it_can_and_names_the_rest() -> None:
    running = DaemonConfig(data_root="/a", debug=False)
    taken, ignored = reloaded(running, DaemonConfig(data_root="/b", debug=True, labels=("a=b",)))
    assert taken.debug
    assert taken.labels == ("a=b",)
    assert taken.data_root == "/a"
    assert ignored == ("data-root",)


def test_the_reload_event_has_dockers_attributes() -> None:
    found = attributes(
        DaemonConfig(labels=("a=b",), features=(("cdi", False),), registry_mirrors=("https://m",))
    )
    assert found["labels"] == '["a=b"]'
    assert found["features"] == "map[cdi:false]"
    assert found["registry-mirrors"] == '["https://m"]'
    assert found["insecure-registries"] == "[]"
    assert found["default-shm-size"] == "67108864"
    assert found["live-restore"] == "true"


_KEYS = st.sampled_from(
    [entry.key for entry in (*OPTIONS, *REFUSALS)] + ["proxies", "host-gateway-ip"]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(
        ["unix:///x", "tcp://", "10.0.0.0/8", "::1", "a=b", "10m", "https://x", "none", "default"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text() | st.sampled_from(["base", "size", "nofile", "Soft", "Hard", "http-proxy"]),
        inner, max_size=3,
    ),
    max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(_KEYS, _JSON, max_size=4))
def test_any_object_is_taken_or_refused_in_words(body: dict[str, object]) -> None:
    with contextlib.suppress(InvalidInput):
        config = check_config(configuration(parse_file(json.dumps(body)).values))
        attributes(config)
        reloaded(config, config)


@given(st.text(max_size=30))
def test_any_host_is_taken_or_refused_in_words(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        parse(text)
