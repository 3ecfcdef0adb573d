"""Log options: Docker's, with Docker's complaints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rootless.engine.goformats import decimal_size
from rootless.engine.logdrivers import check_defaults, log_files, log_path, make_plan
from rootless.engine.logoptions import FileOptions, merge, read, warnings
from rootless.errors import InvalidInput
from rootless.model.request import LogConfig
from rootless.model.spec import ContainerSpec, ImageSpec, ProcessSpec
from tests.unit.engine.samples import spec

ID = "0123456789abcdef" * 4


def _config(driver: str, **options: str) -> LogConfig:
    return LogConfig(driver, tuple((key.replace("_", "-"), v) for key, v in options.items()))


def _spec(log: LogConfig, **changes: object) -> ContainerSpec:
    made = spec(
        id=ID,
        image=ImageSpec("sha256:" + "f" * 64, "example/app:1", ()),
        process=ProcessSpec(("sh", "-c", "x"), ("COLOR=blue", "COLOUR=red"), "/", ""),
        log=log,
        labels=(("com.example.a", "1"), ("com.example.b", "2"), ("other", "é")),
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # keywords of any field


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("fluentd", {}, "logger: no log driver named 'fluentd' is registered"),
        ("x", {}, "logger: no log driver named 'x' is registered"),
        ("json-file", {"nope": "1"}, "unknown log opt 'nope' for json-file log driver"),
        ("local", {"nope": "1"}, "unknown log opt 'nope' for log driver local"),
        ("journald", {"max_size": "1"}, "unknown log opt 'max-size' for journald log driver"),
        ("syslog", {"compress": "1"}, "unknown log opt 'compress' for syslog log driver"),
        ("json-file", {"mode": "fast"}, "logger: logging mode not supported: fast"),
        (
            "json-file", {"max_buffer_size": "1m"},
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        (
            "json-file", {"mode": "non-blocking", "max_buffer_size": "x"},
            "error parsing option max-buffer-size: invalid size: 'x'",
        ),
        ("json-file", {"max_size": "0"}, "max-size must be a positive number"),
        ("json-file", {"max_size": "10q"}, "invalid suffix: 'q'"),
        ("json-file", {"max_size": "abc"}, "invalid size: 'abc'"),
        ("json-file", {"max_size": "-5"}, "invalid size: '-5'"),
        ("json-file", {"max_file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"max_file": "x"}, 'strconv.Atoi: parsing "x": invalid syntax'),
        ("json-file", {"compress": "yes"}, 'strconv.ParseBool: parsing "yes": invalid syntax'),
        (
            "json-file", {"compress": "true", "max_size": "1m"},
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        ("local", {"max_file": "-1"}, "max-file must not be negative"),
        ("local", {"max_file": "1"}, "compression cannot be enabled when max file count is 1"),
        ("syslog", {"syslog_facility": "loud"}, "invalid syslog facility"),
        ("syslog", {"syslog_facility": "24"}, "invalid syslog facility"),
        ("syslog", {"syslog_format": "rfc1"}, "Invalid syslog format"),
        ("syslog", {"syslog_address": "http://x"}, "unsupported scheme: 'http'"),
        ("syslog", {"syslog_address": "unix:///no/x"}, "stat /no/x: no such file or directory"),
        ("syslog", {"syslog_address": "tcp://a:b:c"}, "address a:b:c: not a host and a port"),
        ("syslog", {"syslog_address": "tcp://a:70000"}, "address a:70000: not a host and a port"),
        ("journald", {"cache_disabled": "x"}, "invalid value for option cache-disabled: x"),
        ("journald", {"cache_max_size": "x"}, "invalid size: 'x'"),
    ],
)  # fmt: skip
def test_refusals_have_dockers_words(driver: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(_config(driver, **options))
    assert caught.value.message == message


def test_a_driver_that_docker_has_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        read(_config("gelf"))
    assert str(caught.value.hint).startswith("this engine has no gelf; one of journald, ")


def test_values_are_read_as_docker_reads_them() -> None:
    found = read(_config("json-file", max_size="10m", max_file="3", compress="T"))
    assert found.file == FileOptions(10_000_000, 3, compress=True)
    assert read(_config("json-file", max_size="-1")).file == FileOptions()
    assert read(_config("local")).file == FileOptions(20 << 20, 5, compress=True)
    assert read(_config("journald")).copy == FileOptions(20 << 20, 5, compress=True)
    cached = _config("journald", cache_max_size="1k", cache_max_file="1", cache_compress="false")
    assert read(cached).copy == FileOptions(1000, 1)
    assert read(_config("journald", cache_disabled="true")).copy is None
    assert (found.drop, found.buffer) == (False, 1 << 20)
    buffered = read(_config("local", mode="non-blocking", max_buffer_size="4m"))
    assert (buffered.drop, buffered.buffer) == (True, 4 << 20)
    assert read(_config("local", mode="non-blocking")).buffer == 1_000_000


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", ("", "")),
        ("udp://log.example:1514", ("udp", "log.example:1514")),
        ("tcp://log.example", ("tcp", "log.example:514")),
        ("tcp://:99", ("tcp", "localhost:99")),
        ("tcp+tls://[::1]:6514", ("tcp+tls", "[::1]:6514")),
        ("unixgram:///dev/null", ("unixgram", "/dev/null")),
    ],
)
def test_syslog_addresses(address: str, expected: tuple[str, str]) -> None:
    syslog = read(_config("syslog", syslog_address=address, syslog_facility="local7")).syslog
    assert syslog is not None
    assert (syslog.network, syslog.address) == expected
    assert syslog.facility == 23


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1k", 1000),
        ("1KB", 1000),
        ("1kib", 1000),
        ("1.5m", 1_500_000),
        ("2 g", 2 * 10**9),
    ],
)
def test_sizes_of_files_are_decimal(text: str, size: int) -> None:
    assert decimal_size(text) == size


def test_defaults_are_for_the_default_driver_only() -> None:
    defaults = {"max-size": "1m", "cache-disabled": "true"}
    asked = _config("", max_size="2m")
    assert dict(merge(asked, "json-file", defaults).config) == {
        "max-size": "2m",
        "cache-disabled": "true",
    }
    other = merge(_config("journald"), "json-file", defaults)
    assert (other.type, dict(other.config)) == ("journald", {"cache-disabled": "true"})


def test_options_without_effect_are_told() -> None:
    assert warnings(_config("json-file", max_file="3")) != ()
    assert warnings(_config("none", tag="x")) != ()
    assert warnings(_config("json-file", max_file="3", max_size="1m")) == ()


def test_daemon_defaults_are_checked_as_far_as_they_can_be() -> None:
    check_defaults(_config("syslog", tag="{{.Name}}", labels_regex="^a"))
    for bad in (_config("local", tag="{{.Name"), _config("local", env_regex="(")):
        with pytest.raises(InvalidInput):
            check_defaults(bad)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("plain", "plain"),
        ("{{.ID}}|{{.FullID}}", f"{ID[:12]}|{ID}"),
        ("{{.ImageName}}/{{.Name}}", "example/app:1/web"),
        ("{{.ImageID}} {{.ImageFullID}}", f"{'f' * 12} sha256:{'f' * 64}"),
        ("{{.Command}} by {{.DaemonName}}", "sh -c x by docker"),
        ('{{index .ContainerLabels "other"}}{{if .Name}}!{{end}}', "é!"),
        ("{{.Name | upper}}{{.ContainerName}}", "WEB/web"),
    ],
)
def test_tags(tag: str, expected: str) -> None:
    plan = make_plan(_spec(_config("json-file", tag=tag)), Path("/c"))
    assert json.loads(json.loads(plan.more)["file"]["attrs"]) == {"tag": expected}


@pytest.mark.parametrize(
    "tag",
    [
        "{{.Nope}}",
        "{{",
        "{{range .ContainerEnv}}x{{end}}",
        "{{with .Name}}{{print . .}}{{end}}",
        "{{$x := .Name}}{{$x}}",
        "{{pad .Name 1000000000 0}}",
        "{{" + "(" * 900,
        "x" * 2000,
        '{{join (split .Name "") .Name}}',
        '{{printf "%900000s" .Name}}',
    ],
)
def test_tags_that_are_refused(tag: str) -> None:
    with pytest.raises(InvalidInput):
        make_plan(_spec(_config("json-file", tag=tag)), Path("/c"))


def test_attributes_by_name_and_by_expression() -> None:
    log = _config(
        "local", labels="other,absent", labels_regex=r"^com\.", env="COLOR", env_regex="^COL.*R$"
    )
    attrs = json.loads(json.loads(make_plan(_spec(log), Path("/c")).more)["file"]["attrs"])
    assert attrs == {
        "other": "é", "com.example.a": "1", "com.example.b": "2", "COLOR": "blue", "COLOUR": "red",
    }  # fmt: skip


def test_an_expression_that_would_backtrack_for_ever_does_not() -> None:
    log = _config("local", labels_regex="(a+)+$")
    made = _spec(log, labels=(("a" * 60 + "!", "1"),))
    assert json.loads(make_plan(made, Path("/c")).more)["file"]["attrs"] == ""


def test_journal_fields_are_named_as_the_journal_takes_them() -> None:
    log = _config("journald", labels="_com.exämple-1,MESSAGE,container_id")
    labels = (("_com.exämple-1", "x"), ("MESSAGE", "forged"), ("container_id", "forged"))
    plan = json.loads(make_plan(_spec(log, labels=labels), Path("/c")).more)
    fields = dict(plan["sink"]["fields"])
    assert fields["COM_EX_MPLE_1"] == "x"
    assert "MESSAGE" not in fields
    assert fields["CONTAINER_ID"] == ID[:12]


def test_where_logs_are() -> None:
    directory = Path("/c")
    plain = _spec(_config("json-file"))
    assert log_path(plain, directory) == f"/c/{ID}-json.log"
    assert make_plan(plain, directory).more == ""
    local = _spec(_config("local"))
    assert log_path(local, directory) == ""  # as in Docker: its files are nobody else's
    files = log_files(local, directory)
    assert files is not None
    assert (files.path.name, files.format) == ("local.log", "blocks")
    assert log_files(_spec(_config("none")), directory) is None
    assert log_files(_spec(_config("syslog", cache_disabled="1")), directory) is None
    assert make_plan(_spec(_config("none")), directory).path == ""
