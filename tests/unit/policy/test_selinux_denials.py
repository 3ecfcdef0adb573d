"""``rootless audit selinux``: the kernel's lines, as seen on a Debian with SELinux enforcing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rootless.check import selinux
from rootless.check.audit import main
from rootless.errors import HostUnsupported

LABEL = "unconfined_u:unconfined_r:container_t:s0:c1,c2"
DENIED = (
    "type=AVC msg=audit(1764596000.500:123): avc:  denied  { read open } for  pid=812 "
    'comm="cat" path="/home/tester/secret" dev="vda" ino=7 '
    f"scontext={LABEL} tcontext=unconfined_u:object_r:user_home_t:s0 tclass=file permissive=0\n"
)
OTHER = DENIED.replace("container_t", "sshd_t").replace("cat", "sshd")
GRANTED = "type=SYSCALL msg=audit(1764596000.500:123): arch=c000003e syscall=257 success=no\n"


def test_a_denial_is_read() -> None:
    found = selinux.parse(DENIED)
    assert found == selinux.SelinuxDenial(
        1764596000.5, "read open", "cat", "file", "/home/tester/secret", LABEL,
        "unconfined_u:object_r:user_home_t:s0", permissive=False,
    )  # fmt: skip
    assert selinux.parse(GRANTED) is None
    strange = selinux.parse(DENIED.replace('"/home/tester/secret"', "2F612062"))
    assert strange is not None
    assert strange.object == "/a b"


def test_only_those_of_containers_are_shown_with_their_names() -> None:
    found = list(selinux.denials([GRANTED, OTHER, DENIED], {LABEL: "web"}))
    assert [(denial.program, denial.container) for denial in found] == [("cat", "web")]
    assert list(selinux.denials([OTHER], {LABEL: "web"})) == []


def test_the_command_prints_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "audit.log"
    log.write_text(DENIED)
    (tmp_path / "audit.log.1").write_text(DENIED.replace("cat", "less"))
    monkeypatch.setattr(selinux, "LOGS", (str(log),))
    monkeypatch.setattr(selinux, "names_by_label", lambda: {LABEL: "web"})
    assert main(["selinux"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert " web less: read open of file /home/tester/secret " in first
    assert second.endswith("(unconfined_u:object_r:user_home_t:s0): DENIED")
    assert main(["selinux", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[1])["source"] == LABEL


def test_where_nothing_may_be_read_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selinux, "LOGS", (str(tmp_path / "none/audit.log"),))
    monkeypatch.setattr(selinux, "_KERNEL", str(tmp_path / "kmsg"))
    with pytest.raises(HostUnsupported, match="kernel's messages cannot be read"):
        list(selinux.lines())
