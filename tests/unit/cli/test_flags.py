"""The flag parser has pflag's habits and Docker's words."""

from __future__ import annotations

import pytest

from rootless.cli.createflags import RUN_FLAGS
from rootless.cli.flags import HelpWanted, UsageError, parse


def run(*words: str) -> tuple[dict[str, object], list[str]]:
    parsed = parse(RUN_FLAGS, list(words), interspersed=False)
    return {name: parsed.values[name] for name in parsed.given}, parsed.args


@pytest.mark.parametrize(
    ("words", "given", "args"),
    [
        (["-it", "img"], {"interactive": True, "tty": True}, ["img"]),
        (["-p8080:80", "img"], {"publish": ["8080:80"]}, ["img"]),
        (["-p=8080:80", "img"], {"publish": ["8080:80"]}, ["img"]),
        (["-p", "1:1", "--publish=2:2", "i"], {"publish": ["1:1", "2:2"]}, ["i"]),
        (["-itp", "80", "i"], {"interactive": True, "tty": True, "publish": ["80"]}, ["i"]),
        (["--rm=false", "i"], {"rm": False}, ["i"]),
        (["--rm", "false"], {"rm": True}, ["false"]),
        (["i", "--rm", "-x"], {}, ["i", "--rm", "-x"]),
        (["--", "-i"], {}, ["-i"]),
        (["--name", "-x", "i"], {"name": "-x"}, ["i"]),
        (["--name=", "i"], {"name": ""}, ["i"]),
        (["-e", "A=b=c", "i"], {"env": ["A=b=c"]}, ["i"]),
        (["-m", "64m", "i"], {"memory": 64 << 20}, ["i"]),
        (["--memory-swap", "-1", "i"], {"memory-swap": -1}, ["i"]),
        (["--cpus", "1.5", "i"], {"cpus": 1_500_000_000}, ["i"]),
        (["--cpus", "0.000000001", "i"], {"cpus": 1}, ["i"]),
        (["--pids-limit", "-1", "i"], {"pids-limit": -1}, ["i"]),
        (["--health-interval", "1m30s", "i"], {"health-interval": 90 * 10**9}, ["i"]),
        (["-h", "box", "i"], {"hostname": "box"}, ["i"]),
        (["-"], {}, ["-"]),
    ],
)
def test_forms(words: list[str], given: dict[str, object], args: list[str]) -> None:
    assert run(*words) == (given, args)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["-iX"], "unknown shorthand flag: 'X' in -iX"),
        (["--name"], "flag needs an argument: --name"),
        (["-ip"], "flag needs an argument: 'p' in -ip"),
        (["---x"], "bad flag syntax: ---x"),
        (
            ["--rm=maybe"],
            'invalid argument "maybe" for "--rm" flag: strconv.ParseBool: '
            'parsing "maybe": invalid syntax',
        ),
        (
            ["-c", "x"],
            'invalid argument "x" for "-c, --cpu-shares" flag: strconv.ParseInt: '
            'parsing "x": invalid syntax',
        ),
        (["-m", "lots"], 'invalid argument "lots" for "-m, --memory" flag: invalid size: \'lots\''),
        (
            ["--cpus", "1.0000000001"],
            'invalid argument "1.0000000001" for "--cpus" flag: value is too precise',
        ),
        (
            ["--sysctl", "x"],
            'invalid argument "x" for "--sysctl" flag: x must be formatted as key=value',
        ),
        (
            ["--pids-limit", "9223372036854775808"],
            'invalid argument "9223372036854775808" for "--pids-limit" flag: strconv.ParseInt: '
            'parsing "9223372036854775808": value out of range',
        ),
        (
            ["--stop-timeout", "1_0"],
            'invalid argument "1_0" for "--stop-timeout" flag: strconv.ParseInt: '
            'parsing "1_0": invalid syntax',
        ),
        (
            ["--cpus", "99999999999"],
            'invalid argument "99999999999" for "--cpus" flag: value out of range',
        ),
        (
            ["--cpus", "\u0661"],
            'invalid argument "\u0661" for "--cpus" flag: failed to parse "\u0661" as a '
            "rational number",
        ),
    ],
)
def test_errors(words: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(*words, "img") if words[-1] not in ("--name", "-ip") else run(*words)
    assert caught.value.message == said
    assert caught.value.status == 125


def test_the_nearest_flag_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        run("--netwrk", "x")
    assert caught.value.hint == "did you mean --network?"


def test_help_is_asked_for() -> None:
    with pytest.raises(HelpWanted):
        run("--help")


def test_flags_after_arguments_count_where_docker_allows_it() -> None:
    parsed = parse(RUN_FLAGS, ["a", "--rm", "b"])
    assert parsed.args == ["a", "b"]
    assert parsed.values["rm"] is True


def test_defaults() -> None:
    parsed = parse(RUN_FLAGS, ["img"], interspersed=False)
    assert parsed.given == set()
    assert parsed.values["publish"] == []
    assert parsed.values["sig-proxy"] is True
    assert parsed.values["pull"] == "missing"
