"""Doctor's checks on machines made of files, and on this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rootless.host.checks import CHECKS
from rootless.host.doctor import as_json, can_run, examine, main, render
from rootless.host.result import CheckResult
from tests.support.fakehost import FakeHost


@pytest.fixture
def fake(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def _results(fake: FakeHost) -> dict[str, CheckResult]:
    return {result.id: result for result in examine(fake.host)}


def test_healthy_machine_can_run(fake: FakeHost) -> None:
    results = examine(fake.host)
    assert can_run(results), [r for r in results if r.blocks]
    assert "can run containers here." in render(results, fake.host)


@pytest.mark.parametrize(
    ("file", "text", "check", "words"),
    [
        ("/proc/sys/kernel/osrelease", "4.19.0-27-amd64", "kernel", "4.19"),
        ("/proc/sys/user/max_user_namespaces", "0", "userns", "max_user_namespaces is 0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "userns", "userns_clone is 0"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "apparmor",
            "kernel.apparmor_restrict_unprivileged_userns is 1",
        ),
        ("/etc/subuid", "bob:100000:65536\n", "subuid", "no entry for alice"),
        ("/etc/subgid", "alice:100000:1000\n", "subgid", "1000 ids"),
        ("/proc/sys/kernel/seccomp/actions_avail", None, "seccomp", "no seccomp"),
        ("/usr/bin/newuidmap", None, "newuidmap", "not installed"),
        ("/usr/bin/newgidmap", None, "newgidmap", "not installed"),
        ("/proc/self/status", "NoNewPrivs:\t1\n", "newuidmap", "no_new_privs"),
        ("/usr/bin/slirp4netns", None, "slirp4netns", "not installed"),
        ("/usr/lib/x86_64-linux-gnu/libseccomp.so.2", None, "libseccomp", "not installed"),
        ("/dev/net/tun", None, "dev-tun", "no such device"),
    ],
)
def test_each_missing_requirement_blocks(
    fake: FakeHost, file: str, text: str | None, check: str, words: str
) -> None:
    if text is None:
        fake.remove(file)
    else:
        fake.write(file, text)
    results = examine(fake.host)
    result = {r.id: r for r in results}[check]
    assert result.blocks
    assert words in result.detail
    assert result.cost
    assert result.fix
    assert not can_run(results)
    assert result.fix in render(results, fake.host)


def test_helper_without_privilege_is_missing(fake: FakeHost) -> None:
    fake.path("/usr/bin/newuidmap").chmod(0o755)
    assert "neither setuid" in _results(fake)["newuidmap"].detail


def test_device_that_may_not_be_opened(fake: FakeHost) -> None:
    fake.path("/dev/net/tun").chmod(0o000)
    if os.geteuid() == 0:
        pytest.fail("run as an unprivileged user: ci/test unit", pytrace=False)
    result = _results(fake)["dev-tun"]
    assert result.blocks
    assert "mode 0000" in result.detail


@pytest.mark.parametrize(
    ("missing", "works"),
    [("/usr/bin/fuse-overlayfs", True), ("/proc/filesystems", True), ("both", False)],
)
def test_one_root_filesystem_is_enough(fake: FakeHost, missing: str, works: bool) -> None:
    for name in ["/usr/bin/fuse-overlayfs", "/proc/filesystems"]:
        if missing in (name, "both"):
            fake.remove(name)
    results = examine(fake.host)
    assert can_run(results) is works
    assert (results[-1].id, results[-1].status) == ("rootfs", "found" if works else "missing")


def test_narrow_range_runs_but_is_named(fake: FakeHost) -> None:
    for kind in ("uid", "gid"):
        fake.write(f"/etc/sub{kind}", "alice:100000:65536\n")
    results = examine(fake.host)
    assert can_run(results)
    width = {r.id: r for r in results}["id-width"]
    assert width.status == "missing"
    assert "--userns=auto" in width.cost


def test_ranges_by_number_and_in_pieces_count(fake: FakeHost) -> None:
    uid = os.getuid()
    fake.write("/etc/subuid", f"# comment\nalice:100000:40000\n{uid}:300000:40000\nx:1\n")
    assert "80000 ids" in _results(fake)["subuid"].detail


def test_runtime_directory_open_to_others(fake: FakeHost) -> None:
    fake.path(f"/run/user/{os.getuid()}").chmod(0o755)
    result = _results(fake)["runtime-dir"]
    assert result.blocks
    assert result.fix == f"chmod 0700 /run/user/{os.getuid()}"


def test_controllers_of_the_user_manager(fake: FakeHost) -> None:
    uid = os.getuid()
    manager = f"/cg/user.slice/user-{uid}.slice/user@{uid}.service"
    fake.write("/proc/self/mountinfo", "30 25 0:26 / /cg rw shared:4 - cgroup2 cgroup2 rw\n")
    fake.write(f"{manager}/cgroup.controllers", "memory pids\n")
    result = _results(fake)["cgroup-delegation"]
    assert result.status == "missing"
    assert result.detail == f"memory pids in {manager}"
    assert result.cost == "limits that need cpu, cpuset, io are refused"
    fake.write(f"{manager}/cgroup.controllers", "cpu cpuset io memory pids\n")
    assert _results(fake)["cgroup-delegation"].status == "found"


def test_selinux_is_told_with_its_policy(fake: FakeHost) -> None:
    assert _results(fake)["selinux"].detail == "not enabled"
    fake.write("/sys/fs/selinux/enforce", "1")
    fake.write("/etc/selinux/config", "# a comment\nSELINUX=enforcing\nSELINUXTYPE=default\n")
    found = _results(fake)["selinux"]
    assert (found.status, found.detail) == (
        "found", "enforcing, policy default, with container types",
    )  # fmt: skip
    fake.write("/sys/fs/selinux/enforce", "0")
    assert _results(fake)["selinux"].status == "missing"


def test_linger_matters_only_with_systemd(fake: FakeHost) -> None:
    assert _results(fake)["linger"].status == "found"
    fake.path("/run/systemd/system").mkdir(parents=True)
    assert _results(fake)["linger"].fix == "sudo loginctl enable-linger alice"
    fake.write("/var/lib/systemd/linger/alice", "")
    assert _results(fake)["linger"].status == "found"


def test_ids_are_unique_and_every_check_is_listed(fake: FakeHost) -> None:
    ids = [result.id for result in examine(fake.host)]
    assert len(ids) == len(set(ids)) == len(CHECKS) + 1


def test_json_form(fake: FakeHost) -> None:
    fake.remove("/dev/net/tun")
    document = json.loads(as_json(examine(fake.host), fake.host))
    assert document["user"] == "alice"
    assert document["canRun"] is False
    (tun,) = [check for check in document["checks"] if check["id"] == "dev-tun"]
    assert tun["status"] == "missing"
    assert tun["fix"].startswith("sudo rootless setup")


def test_unknown_user_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--user", "no-such-user-here"]) == 2
    assert capsys.readouterr().err.startswith("rootless doctor: no such user: no-such-user-here")


def test_on_this_machine() -> None:
    """The report of the real machine agrees with its exit status, in both formats."""
    command = [sys.executable, "-c", "import sys; from rootless.host.doctor import main; "]
    command[-1] += "sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [*command, "--format", "json"], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    document = json.loads(done.stdout)
    assert done.returncode == (0 if document["canRun"] else 1)
    assert {check["id"] for check in document["checks"]} >= {"kernel", "userns", "rootfs"}
    for check in document["checks"]:
        assert (check["status"] == "missing") == bool(check["fix"])
