"""Setup on machines made of files: what it changes, that it stops, that undo is exact."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import Exhausted, InvalidInput, Unavailable
from rootless.host import changes, edit, plan, setup
from rootless.host.changes import AddLine, Mode, NewFile, Sysctl
from rootless.host.doctor import can_run, examine
from tests.support.fakehost import FakeHost


@pytest.fixture
def fake(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def _apply(fake: FakeHost, *, packages: bool = True) -> list[str]:
    said: list[str] = []
    setup.apply(fake.host, packages=packages, say=said.append)
    return said


def _break(fake: FakeHost) -> None:
    """A machine that lacks everything setup can mend without systemd."""
    for kind in ("uid", "gid"):
        fake.write(f"/etc/sub{kind}", "bob:100000:65536\n")
    for node in ("/dev/fuse", "/dev/net/tun"):
        fake.path(node).chmod(0o600)
    fake.path("/etc/udev").mkdir()
    fake.write("/proc/sys/kernel/unprivileged_userns_clone", "0\n")
    fake.write("/proc/sys/user/max_user_namespaces", "0\n")
    fake.write("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")


def test_ready_machine_is_left_alone(fake: FakeHost) -> None:
    before = fake.tree()
    assert _apply(fake) == []
    assert fake.tree() == before
    assert fake.commands == []


def test_mends_what_doctor_complains_about_and_stops(fake: FakeHost) -> None:
    _break(fake)
    assert not can_run(examine(fake.host))
    said = _apply(fake)
    assert "add to /etc/subuid: alice:196608:1048576" in said
    assert "add to /etc/subgid: alice:196608:1048576" in said
    assert "chmod 0666 /dev/fuse (was 0600)" in said
    assert "sysctl kernel.unprivileged_userns_clone=1 (was 0)" in said
    assert can_run(examine(fake.host))
    after = fake.tree()
    assert _apply(fake) == []
    assert fake.tree() == after


def test_undo_restores_every_byte(fake: FakeHost) -> None:
    _break(fake)
    before = fake.tree()
    _apply(fake)
    assert fake.tree() != before
    said: list[str] = []
    assert setup.undo(fake.host, say=said.append) > 0
    # /proc/sys files are rewritten without the newline the fake had.
    assert {k: v.strip() for k, v in fake.tree().items()} == {
        k: v.strip() for k, v in before.items()
    }
    assert setup.undo(fake.host, say=said.append) == 0


def test_undo_keeps_what_somebody_changed_since(fake: FakeHost) -> None:
    _break(fake)
    _apply(fake)
    fake.write("/etc/sysctl.d/60-rootless.conf", "mine\n")
    fake.path("/dev/fuse").chmod(0o660)
    said: list[str] = []
    setup.undo(fake.host, say=said.append)
    assert "keep /etc/sysctl.d/60-rootless.conf: it was edited" in said
    assert fake.path("/dev/fuse").stat().st_mode & 0o777 == 0o660


def test_undo_after_a_crash_between_record_and_change(
    fake: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever change is the one that never happened, undo leads back to the beginning."""
    _break(fake)
    before = {k: v.strip() for k, v in fake.tree().items()}
    total = len(plan.plan(fake.host))
    for survivors in range(total):
        done = 0
        for kind in (AddLine, NewFile, Mode, Sysctl):
            original = kind.apply

            def crash(self, host, original=original, limit=survivors):  # type: ignore[no-untyped-def]  # stands in for each kind's apply
                nonlocal done
                if done == limit:
                    raise KeyboardInterrupt
                done += 1
                original(self, host)

            monkeypatch.setattr(kind, "apply", crash)
        with pytest.raises(KeyboardInterrupt):
            _apply(fake)
        monkeypatch.undo()
        setup.undo(fake.host, say=lambda _: None)
        assert {k: v.strip() for k, v in fake.tree().items()} == before


def test_packages_are_installed_by_name(fake: FakeHost) -> None:
    fake.write("/usr/bin/apt-get", "")
    fake.remove("/usr/bin/slirp4netns")
    fake.remove("/usr/bin/newuidmap")
    _apply(fake)
    assert fake.commands == [
        ("apt-get", "update", "-q"),
        ("apt-get", "install", "-q", "-y", "--no-install-recommends", "uidmap", "slirp4netns"),
    ]


def test_failing_program_is_one_error(fake: FakeHost) -> None:
    fake.write("/usr/bin/apt-get", "")
    fake.remove("/usr/bin/slirp4netns")
    fake.failing.add("apt-get")
    with pytest.raises(Unavailable, match="apt-get update -q failed: apt-get: no"):
        _apply(fake)


def test_systemd_host_gets_linger_and_delegation(fake: FakeHost) -> None:
    fake.path("/run/systemd/system").mkdir(parents=True)
    fake.write("/usr/bin/systemctl", "")
    _apply(fake)
    assert ("loginctl", "enable-linger", "alice") in fake.commands
    assert ("systemctl", "daemon-reload") in fake.commands
    drop_in = fake.path("/etc/systemd/system/user@.service.d/50-rootless-delegate.conf")
    assert "Delegate=cpu cpuset io memory pids" in drop_in.read_text()
    fake.commands.clear()
    setup.undo(fake.host, say=lambda _: None)
    assert ("loginctl", "disable-linger", "alice") in fake.commands
    assert not drop_in.parent.exists()


def test_without_systemd_a_subtree_is_delegated(fake: FakeHost) -> None:
    fake.write("/proc/self/mountinfo", "30 25 0:26 / /cg rw - cgroup2 none rw\n")
    assert _apply(fake) == []  # the mount is covered: nothing to be seen there
    fake.write("/cg/cgroup.procs", "")
    fake.write("/cg/cgroup.controllers", "cpu hugetlb pids\n")
    fake.write("/cg/cgroup.subtree_control", "")
    assert _apply(fake) == ["delegate cgroup /cg/rootless-alice (cpu pids)"]
    assert setup.delegated_cgroup(fake.host) == "/cg/rootless-alice"
    assert _apply(fake) == []
    setup.undo(fake.host, say=lambda _: None)
    assert setup.delegated_cgroup(fake.host) == ""


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 2**24)), min_size=0, max_size=12),
    st.integers(1, 2**21),
)
def test_free_range_overlaps_nobody(
    tmp_path_factory: pytest.TempPathFactory, ranges: list[tuple[int, int]], count: int
) -> None:
    fake = FakeHost(tmp_path_factory.mktemp("host"))
    lines = [f"user{index}:{start}:{size}" for index, (start, size) in enumerate(ranges)]
    fake.write("/etc/subuid", "\n".join(lines[::2]))
    fake.write("/etc/subgid", "\n".join(lines[1::2]))
    try:
        start = plan.free_range(fake.host, count)
    except Exhausted:
        assert ranges
        return
    assert start >= 100_000
    assert start % 65_536 == 0
    assert start + count <= 2**32 - 1
    for first, size in ranges:
        assert first + size <= start or start + count <= first


def test_account_inside_the_range_is_avoided(fake: FakeHost) -> None:
    fake.write("/etc/subuid", "")
    fake.write("/etc/subgid", "")
    fake.write("/etc/passwd", "ldap:x:200000:100::/:/bin/sh\n")
    assert plan.free_range(fake.host, 1 << 20) == 262_144


def test_exhausted_ids_are_named(fake: FakeHost) -> None:
    fake.write("/etc/subuid", "bob:100000:4294800000\n")
    with pytest.raises(Exhausted, match="no 1048576 consecutive ids are free"):
        plan.free_range(fake.host, 1 << 20)


def test_damaged_record_is_named(fake: FakeHost) -> None:
    fake.write("/var/lib/rootless-setup/alice.json", '{"changes": [{"kind": "nonsense"}]}')
    with pytest.raises(InvalidInput, match="is not a record of rootless setup"):
        setup.undo(fake.host)


def test_every_kind_of_change_survives_the_record() -> None:
    samples = [
        AddLine("/etc/subuid", "a:1:2"),
        NewFile("/etc/x", "text\n", ("systemctl", "daemon-reload")),
        Mode("/dev/fuse", 0o666, 0o600),
        Sysctl("a.b", "1", "0"),
        changes.Command(("a", "b"), ("c",)),
        changes.OwnDirectory("/run/user/1", 1, 1),
        changes.CgroupSubtree("/cg/x", 1, 1, ("cpu",)),
    ]
    assert [changes.from_json(changes.to_json(sample)) for sample in samples] == samples


def test_lock_of_a_living_program_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edit, "_LOCK_SECONDS", 0.0)
    file = tmp_path / "subuid"
    file.write_text("bob:1:1\n")
    (tmp_path / "subuid.lock").write_text(f"{os.getpid()}\0")
    with pytest.raises(Unavailable, match="is locked by another program"):
        edit.add_line(file, "alice:2:2")
    assert file.read_text() == "bob:1:1\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["subuid", "subuid.lock"]


def test_stale_lock_is_taken_over(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    (tmp_path / "subuid.lock").write_text(f"{pid}\0")
    edit.add_line(tmp_path / "subuid", "alice:2:2")
    assert [p.name for p in tmp_path.iterdir()] == ["subuid"]


def test_edit_keeps_mode_and_odd_bytes(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_bytes(b"b\xf6b:1:1\n")
    file.chmod(0o640)
    edit.add_line(file, "alice:2:2")
    assert file.read_bytes() == b"b\xf6b:1:1\nalice:2:2\n"
    assert file.stat().st_mode & 0o777 == 0o640
    edit.remove_line(file, "alice:2:2")
    assert file.read_bytes() == b"b\xf6b:1:1\n"


def test_main_refuses_root_as_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    assert setup.main(["--user", "root"]) == 2
    assert "not for root" in capsys.readouterr().err


def test_main_needs_root(capsys: pytest.CaptureFixture[str]) -> None:
    assert setup.main([]) == 2
    assert "needs root\nhint: sudo rootless setup --user" in capsys.readouterr().err


def test_dry_run_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("/etc/subuid").read_bytes()
    assert setup.main(["--dry-run"]) == 0
    assert capsys.readouterr().out
    assert Path("/etc/subuid").read_bytes() == before


def test_the_selinux_module_is_installed_where_its_rules_are_lacking(
    fake: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = ["dyntransition (process)"]
    monkeypatch.setattr(plan.selinux, "lacking", lambda _label: lacking)
    monkeypatch.setattr(plan.probe, "selinux_enabled", lambda **_: True)
    host = dataclasses.replace(fake.host, live=True)

    def wanted() -> list[str]:
        return [change.describe() for change in plan.plan_selinux(host)]

    monkeypatch.setattr(plan.Host, "program", lambda _self, name: f"/usr/sbin/{name}")
    (line,) = wanted()
    assert line.startswith("run semodule -X 400 -i ")
    assert line.endswith("rootless.cil")
    lacking[:] = ["the type container_t"]
    assert wanted() == [], "rules for a type that the policy has not cannot be loaded"
    lacking.clear()
    assert wanted() == []
    monkeypatch.setattr(plan.probe, "selinux_enabled", lambda **_: False)
    lacking.append("x")
    assert wanted() == []
