"""Sandboxes on the real kernel: what they contain, what they deny, how they end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyseccomp
import pytest

from rootless.errors import RootlessError, StartFailed
from rootless.linux import procfs
from rootless.linux.sync import exchange
from rootless.model.mounts import IdMap, MountSpec
from rootless.model.plan import LaunchPlan, LogPlan
from rootless.model.request import Resources, RlimitRequest
from rootless.model.spec import ContainerSpec, NamespacesSpec, PrivilegesSpec, UsernsSpec
from rootless.runtime.launcher_client import entry_key, frame_key
from rootless.runtime.planner import plan_container
from rootless.runtime.shim_client import ShimClient, read_state
from tests.support.sandbox import FACTS, Sandbox

pytestmark = pytest.mark.integration

COMMON = UsernsSpec("shared", (IdMap(0, 1, 60000),), 60001)
_RECVMSG = str(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, "recvmsg"))


async def test_exit_code_and_output(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sh", "-c", "echo out; echo err >&2; exit 3")
    status, log = await sandbox.run(spec)
    assert status.code == 3
    assert sorted(log.split()) == ["err", "out"]


async def test_every_namespace_is_its_own(sandbox: Sandbox) -> None:
    names = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
    spec = await sandbox.spec(
        "sh", "-c", "for n in $*; do readlink /proc/self/ns/$n; done", "sh", *names
    )
    _, log = await sandbox.run(spec)
    ours = {os.readlink(f"/proc/self/ns/{name}") for name in names}
    assert len(log.split()) == len(names)
    assert not ours & set(log.split())


async def test_root_is_a_subordinate_id(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sleep", "1000")
    client = await sandbox.start(spec)
    state = read_state(client.directory)
    assert state is not None
    owner = os.stat(f"/proc/{state.init_pid}").st_uid
    assert owner not in {0, os.getuid()}
    await client.signal(signal.SIGKILL)
    assert (await client.wait()).code == 137


async def test_host_files_are_out_of_reach(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    spec = await sandbox.spec("sh", "-c", f"cat {secret}; ls /proc/1/root/{secret}; cd ../..; pwd")
    _, log = await sandbox.run(spec)
    assert log.count("No such file") == 2
    assert log.endswith("/\n")


async def test_processes_of_the_host_are_invisible(sandbox: Sandbox) -> None:
    _, log = await sandbox.run(await sandbox.spec("sh", "-c", "echo /proc/[0-9]*"))
    assert log == "/proc/1\n"


@pytest.mark.parametrize(
    "command",
    [
        "mount -t tmpfs x /tmp",
        "hostname evil",
        "mknod /tmp/m b 8 0",
        "echo 1 > /proc/sys/kernel/ns_last_pid",
        "echo 1 > /sys/kernel/uevent_seqnum",
        "umount /proc/acpi",
        "chroot /tmp /bin/true",
    ],
)
async def test_a_default_container_is_denied(sandbox: Sandbox, command: str) -> None:
    status, _ = await sandbox.run(await sandbox.spec("sh", "-c", f"{command}; exit $?"))
    assert status.code != 0


async def test_capabilities_are_what_was_granted(sandbox: Sandbox) -> None:
    spec = await sandbox.spec(
        "grep", "^Cap", "/proc/self/status", privileges=PrivilegesSpec(("CAP_CHOWN", "CAP_KILL"))
    )
    _, log = await sandbox.run(spec)
    caps = dict(line.split() for line in log.splitlines())
    mask = (1 << 0) | (1 << 5)
    assert int(caps["CapEff:"], 16) == int(caps["CapPrm:"], 16) == int(caps["CapBnd:"], 16) == mask
    assert int(caps["CapInh:"], 16) == int(caps["CapAmb:"], 16) == 0


async def test_no_new_privileges(sandbox: Sandbox) -> None:
    for wanted in (True, False):
        privileges = PrivilegesSpec((), no_new_privileges=wanted)
        spec = await sandbox.spec("grep", "NoNewPrivs", "/proc/self/status", privileges=privileges)
        _, log = await sandbox.run(spec)
        assert log.split() == ["NoNewPrivs:", str(int(wanted))]


async def test_masked_and_readonly_paths(sandbox: Sandbox) -> None:
    script = "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/vm/drop_caches"
    _, log = await sandbox.run(await sandbox.spec("sh", "-c", script))
    assert log.split()[:2] == ["0", "0"]
    assert "Read-only file system" in log


async def test_named_user_with_groups_and_home(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sh", "-c", "id; echo $HOME; grep CapEff /proc/self/status")
    spec = replace(spec, process=replace(spec.process, user="alice", group_add=("7",)))
    _, log = await sandbox.run(spec)
    assert (
        "uid=1000(alice) gid=1000(alice) groups=29(audio),7,"
        in log.replace("groups=1000(alice),", "groups=")
        or "groups=7" in log
        or "29(audio)" in log
    )
    assert "/home/alice\n" in log
    assert log.endswith("0000000000000000\n")


async def test_unknown_user_is_a_clear_error(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("true")
    spec = replace(spec, process=replace(spec.process, user="bob"))
    with pytest.raises(StartFailed, match="unable to find user bob"):
        await sandbox.start(spec)
    assert read_state(sandbox.base / spec.id) is None


async def test_policy_obligation_forbids_root(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("true")
    with pytest.raises(StartFailed, match="forbids uid 0"):
        await sandbox.start(replace(spec, process=replace(spec.process, forbid_root=True)))


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        ("nosuch", 127, "executable file not found in $PATH"),
        ("/no/such", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
        ("/tmp", 126, "permission denied"),
    ],
)
async def test_a_program_that_cannot_run(
    sandbox: Sandbox, program: str, code: int, words: str
) -> None:
    spec = await sandbox.spec(program)
    with pytest.raises(StartFailed) as caught:
        await sandbox.start(spec)
    assert caught.value.exit_code == code
    assert words in caught.value.message


async def test_working_directory_is_made(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("pwd")
    _, log = await sandbox.run(replace(spec, process=replace(spec.process, cwd="/new/deep")))
    assert log == "/new/deep\n"


async def test_working_directory_is_made_below_a_read_only_root(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sh", "-c", "pwd; mkdir x")
    spec = replace(
        spec,
        process=replace(spec.process, cwd="/new/deep"),
        rootfs=replace(spec.rootfs, read_only=True),
    )
    _, log = await sandbox.run(spec)
    assert log.startswith("/new/deep\n")
    assert "Read-only file system" in log


async def test_stdin_reaches_the_process_and_ends(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sh", "-c", "wc -c; echo done")
    spec = replace(spec, process=replace(spec.process, open_stdin=True))
    created = await sandbox.create(spec)
    created.close_fds()
    client = ShimClient(sandbox.base / spec.id)
    attachment = await client.ask_attach(stdin=True, stdout=True, stderr=True)
    await created.go()
    await attachment.accepted(spec.id)
    block = b"x" * (1 << 20)
    for _ in range(32):
        await attachment.write(block)
    await attachment.close_stdin()
    output = b"".join([data async for _, data in attachment])
    assert output.split() == [str(32 << 20).encode(), b"done"]
    assert (await client.wait()).code == 0
    await attachment.close()


async def test_a_slow_reader_loses_nothing(sandbox: Sandbox) -> None:
    size = 24 << 20
    spec = await sandbox.spec("sh", "-c", f"head -c {size} /dev/zero")
    created = await sandbox.create(spec, log=LogPlan())
    created.close_fds()
    client = ShimClient(sandbox.base / spec.id)
    attachment = await client.ask_attach(stdin=False, stdout=True, stderr=False)
    await created.go()
    await attachment.accepted(spec.id)
    await asyncio.sleep(0.3)  # long enough for every buffer on the way to fill up
    total = 0
    async for _, data in attachment:
        total += len(data)
    assert total == size
    await attachment.close()


async def test_terminal(sandbox: Sandbox) -> None:
    spec = await sandbox.spec(
        "sh", "-c", "tty; stty size; ls /dev/console; read a; stty size; echo got $a"
    )
    spec = replace(
        spec, process=replace(spec.process, terminal=True, open_stdin=True, console_size=(30, 100))
    )
    created = await sandbox.create(spec)
    created.close_fds()
    client = ShimClient(sandbox.base / spec.id)
    attachment = await client.ask_attach(stdin=True, stdout=True, stderr=True)
    await created.go()
    await attachment.accepted(spec.id)
    seen = b""
    answered = False
    async for stream, data in attachment:
        assert stream == 1
        seen += data
        if b"/dev/console" in seen and not answered:
            answered = True
            await attachment.resize(40, 120)
            await attachment.write(b"hello\n")
    lines = seen.decode().split()
    assert lines[:4] == ["/dev/pts/0", "30", "100", "/dev/console"]
    assert lines[-4:] == ["40", "120", "got", "hello"]
    await attachment.close()


async def test_exec_joins_everything(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sleep", "1000")
    client = await sandbox.start(spec)
    created, shim = await sandbox.exec(
        spec,
        "sh",
        "-c",
        "for p in 1 self; do for n in /proc/$p/ns/*; do readlink $n; done; done; cat; exit 5",
        attach_stdin=True,
    )
    attachment = await shim.attach(stdin=True, stdout=True, stderr=True)
    await created.go()
    await attachment.write(b"bye\n")
    await attachment.close_stdin()
    output = b"".join([data async for _, data in attachment]).decode().split()
    half = len(output) // 2
    assert output[-1] == "bye"
    assert output[:half] == output[half:-1]
    assert (await shim.wait()).code == 5
    await attachment.close()
    await client.signal(9)
    await client.wait()


async def test_exec_of_a_missing_program(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sleep", "1000")
    client = await sandbox.start(spec)
    created, _ = await sandbox.exec(spec, "nosuch")
    with pytest.raises(StartFailed) as caught:
        await created.go()
    assert caught.value.exit_code == 127
    await client.signal(9)
    await client.wait()


async def test_process_limit_without_a_controller(sandbox: Sandbox) -> None:
    bomb = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; wait"
    limited = await sandbox.spec("sh", "-c", bomb, resources=Resources(pids_limit=5))
    _, log = await sandbox.run(limited)
    assert "can't fork" in log
    free = await sandbox.spec("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do true & done; wait")
    status, log = await sandbox.run(free)
    assert (status.code, log) == (0, "")


async def test_process_limit_above_the_users_own(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("true", resources=Resources(pids_limit=(1 << 63) - 1))
    status, _ = await sandbox.run(spec)
    assert status.code == 0


async def test_oom_score(sandbox: Sandbox) -> None:
    _, log = await sandbox.run(
        await sandbox.spec("cat", "/proc/self/oom_score_adj", oom_score_adj=321)
    )
    assert log == "321\n"
    with pytest.raises(StartFailed, match="below the engine's own score"):
        await sandbox.start(await sandbox.spec("true", oom_score_adj=-1000))


async def test_ulimit(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sh", "-c", "ulimit -n", rlimits=(RlimitRequest("nofile", 77, 88),))
    _, log = await sandbox.run(spec)
    assert log == "77\n"
    spec = await sandbox.spec("true", rlimits=(RlimitRequest("nofile", 1 << 30, 1 << 30),))
    with pytest.raises(StartFailed, match="hard limit"):
        await sandbox.start(spec)


async def test_bind_mounts(sandbox: Sandbox, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("content\n")
    mounts = (
        MountSpec("bind", "/mnt/ro", source=str(tmp_path), read_only=True),
        MountSpec("bind", "/mnt/one", source=str(tmp_path / "file")),
        MountSpec("tmpfs", "/scratch", size=1 << 20, mode=0o700),
    )
    script = (
        "cat /mnt/ro/file /mnt/one; touch /mnt/ro/x; stat -c %a /scratch; df -k /scratch | tail -1"
    )
    _, log = await sandbox.run(await sandbox.spec("sh", "-c", script, mounts=mounts))
    assert log.count("content") == 2
    assert "Read-only file system" in log
    assert "700\n" in log
    assert " 1024 " in log


async def test_a_missing_bind_source(sandbox: Sandbox, tmp_path: Path) -> None:
    mount = MountSpec("bind", "/mnt", source=str(tmp_path / "none"))
    with pytest.raises(RootlessError, match="does not exist"):
        await sandbox.start(await sandbox.spec("true", mounts=(mount,)))


async def test_a_replaced_bind_source_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    mount = MountSpec("bind", "/mnt", source=str(tmp_path), source_dev=1, source_ino=1)
    with pytest.raises(RootlessError, match="replaced after the policy"):
        await sandbox.start(await sandbox.spec("true", mounts=(mount,)))


async def test_a_mount_cannot_cover_proc(sandbox: Sandbox, tmp_path: Path) -> None:
    await sandbox.shell('ln -s /proc "$0/innocent"', str(sandbox.base / "layer"))
    mount = MountSpec("bind", "/innocent/sys", source=str(tmp_path))
    with pytest.raises(RootlessError, match="inside /proc"):
        await sandbox.start(await sandbox.spec("true", mounts=(mount,)))


async def test_a_mount_target_symlink_stays_inside(sandbox: Sandbox, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    await sandbox.shell('ln -s "$1" "$0/out"', str(sandbox.base / "layer"), str(outside))
    source = tmp_path / "source"
    source.mkdir()
    (source / "marker").touch()
    mount = MountSpec("bind", "/out/x", source=str(source))
    _, log = await sandbox.run(await sandbox.spec("ls", f"{outside}/x", mounts=(mount,)))
    assert log == "marker\n"
    assert not list(outside.iterdir())


async def test_read_only_root(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sh", "-c", "touch /x; touch /dev/shm/y && echo ok")
    spec = replace(spec, rootfs=replace(spec.rootfs, read_only=True))
    _, log = await sandbox.run(spec)
    assert "Read-only file system" in log
    assert log.endswith("ok\n")


@pytest.mark.parametrize("user", ["", "nosuch"])
async def test_giving_up_tells_what_had_failed(sandbox: Sandbox, user: str) -> None:
    """Whatever else failed may have failed because of it."""
    spec = await sandbox.spec("true")
    spec = replace(spec, process=replace(spec.process, user=user))
    plan = plan_container(sandbox.admitted(spec), FACTS, sandbox.layout(spec))
    created = await sandbox.launcher.create(plan)
    ended = os.pidfd_open(created.shim_pid)
    created.close_fds()
    failure = await created.failure()
    assert (str(failure) if failure else "") == (
        "unable to find user nosuch: no matching entries in passwd file "
        "(hint: name a user of the image, or a number)"
        if user
        else ""
    )
    await asyncio.to_thread(_wait_pidfd, ended)


async def test_giving_up_before_go_leaves_nothing(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sleep", "1000")
    created = await sandbox.create(spec)
    pidfd = os.pidfd_open(created.shim_pid)
    created.cancel()
    await asyncio.to_thread(_wait_pidfd, pidfd)
    assert not os.path.exists(f"/proc/{created.init_pid}/root")
    assert read_state(sandbox.base / spec.id) is None


async def test_a_killed_shim_takes_its_container_along(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sleep", "1000")
    client = await sandbox.start(spec)
    state = read_state(client.directory)
    assert state is not None
    init = os.pidfd_open(state.init_pid)
    os.kill(state.shim_pid, signal.SIGKILL)
    await asyncio.to_thread(_wait_pidfd, init)


async def test_containers_outlive_the_launcher(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sh", "-c", "sleep 0.2; echo alive; exit 4")
    client = await sandbox.start(spec)
    os.kill(sandbox.launcher.pid, signal.SIGKILL)
    assert (await client.wait()).code == 4
    assert sandbox.log(spec) == "alive\n"
    await sandbox.launcher.close()
    from rootless.runtime.launcher_client import Launcher

    sandbox.launcher = await Launcher.start()


async def test_a_new_launcher_enters_the_old_namespace(sandbox: Sandbox) -> None:
    from rootless.runtime.launcher_client import Launcher, namespaces_of

    spec = await sandbox.spec("sleep", "1000")
    client = await sandbox.start(spec)
    state = read_state(client.directory)
    assert state is not None
    await sandbox.launcher.close()
    namespaces = namespaces_of(state.shim_pid)
    sandbox.launcher = await Launcher.start(enter=namespaces)
    for fd in namespaces:
        os.close(fd)
    created, shim = await sandbox.exec(spec, "sh", "-c", "exit 6")
    await created.go()
    assert (await shim.wait()).code == 6
    await client.signal(9)
    await client.wait()


@pytest.mark.parametrize("kind", ["network", "ipc", "pid", "uts"])
async def test_sharing_a_namespace(sandbox: Sandbox, kind: str) -> None:
    first = await sandbox.spec("sleep", "1000")
    client = await sandbox.start(first)
    state = read_state(client.directory)
    assert state is not None
    name = "net" if kind == "network" else kind
    spec = await sandbox.spec(
        "sh",
        "-c",
        f"readlink /proc/self/ns/{name}; ls /sys/class/net /dev/mqueue; echo /proc/[0-9]*",
        namespaces=replace(NamespacesSpec(), **{kind: f"container:{first.id}"}),
    )
    wanted = os.readlink(f"/proc/{state.init_pid}/ns/{name}")
    pids = ((kind, state.init_pid, state.init_start),)
    status, log = await sandbox.run(spec, namespace_pids=pids)
    assert status.code == 0, log
    assert log.split()[0] == wanted
    await client.signal(9)
    await client.wait()


async def test_nothing_of_the_engine_is_open_or_importable(sandbox: Sandbox) -> None:
    _, log = await sandbox.run(await sandbox.spec("sh", "-c", "ls /proc/self/fd; env"))
    descriptors = [word for word in log.split() if word.isdigit()]
    assert descriptors == ["0", "1", "2", "3"]  # 3 is ls reading the directory
    assert "PYTHON" not in log


async def test_abstract_sockets_of_the_host_are_out_of_reach(sandbox: Sandbox) -> None:
    name = f"rootless-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        _, log = await sandbox.run(await sandbox.spec("cat", "/proc/net/unix"))
    assert name not in log


def _wait_pidfd(fd: int) -> None:
    import select

    poller = select.poll()
    poller.register(fd, select.POLLIN)
    assert poller.poll(20000)
    os.close(fd)


async def _filtered(sandbox: Sandbox, *args: str, log: bool) -> tuple[object, str]:
    import dataclasses

    from rootless.resources import resource_path
    from rootless.seccomp.compile import filter_for, store_raw

    spec = await sandbox.spec(*args)
    text = resource_path("profiles", "seccomp/default.json").read_text()
    cache = sandbox.base / "seccomp"
    cache.mkdir()
    made = filter_for(
        text,
        spec.privileges.capabilities,
        os.uname().machine,
        (6, 1),
        cache_dir=cache,
        notify_denied=log,
    )
    changes: dict[str, object] = {"seccomp_path": str(store_raw(cache, made.loaded))}
    changes["seccomp_flags"] = made.flags
    if log:
        changes["seccomp_original"] = str(store_raw(cache, made.bpf))
    status, output = await sandbox.run(spec, **changes)
    return dataclasses.replace(status), output


@pytest.mark.parametrize("log", [False, True])
async def test_seccomp_denies_and_reports(sandbox: Sandbox, *, log: bool) -> None:
    script = "grep Seccomp: /proc/self/status; unshare -U true; echo $?"
    status, output = await _filtered(sandbox, "sh", "-c", script, log=log)
    assert output.split()[:2] == ["Seccomp:", "2"]
    assert "Operation not permitted" in output
    denied = {number for _, number, _ in status.denied}  # type: ignore[attr-defined]  # number, call, count
    unshare = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
    assert (unshare in denied) is log


async def test_own_id_ranges_over_shared_layers(sandbox: Sandbox) -> None:
    """Two containers share no id, and what they write is stored with the image's ids."""
    seen = []
    for base in (70000, 80000):
        spec = await sandbox.spec(
            "sh", "-c", "id -u; stat -c %u /home/alice /bin; touch /new; cat /proc/self/uid_map"
        )
        size = 5000
        stored = replace(
            spec.rootfs,
            driver="fuse-overlayfs",
            id_maps=(IdMap(0, base, size),),
            volatile=False,
        )
        userns = UsernsSpec("auto", (IdMap(0, base, size),), base + size)
        status, log = await sandbox.run(replace(spec, rootfs=stored, userns=userns))
        assert status.code == 0, log
        assert log.split()[:3] == ["0", "1000", "0"]
        seen.append(log.split()[3:])
        await sandbox.shell('test "$(stat -c %u "$0/new")" = 1', spec.rootfs.upper)
    assert seen == [["0", "70000", "5000"], ["0", "80000", "5000"]]


async def test_shared_ipc_includes_shared_memory(sandbox: Sandbox) -> None:
    first = await sandbox.spec("sh", "-c", "echo here > /dev/shm/note; exec sleep 1000")
    client = await sandbox.start(first)
    state = read_state(client.directory)
    assert state is not None
    spec = await sandbox.spec(
        "sh",
        "-c",
        "while ! test -s /dev/shm/note; do :; done; cat /dev/shm/note",
        namespaces=NamespacesSpec(ipc=f"container:{first.id}"),
    )
    pids = (("ipc", state.init_pid, state.init_start),)
    status, log = await sandbox.run(spec, namespace_pids=pids)
    assert (status.code, log) == (0, "here\n")
    await client.signal(9)
    await client.wait()


@pytest.mark.parametrize("kind", ["network", "ipc", "pid", "uts", "cgroup"])
async def test_host_namespaces_and_exec_in_them(sandbox: Sandbox, kind: str) -> None:
    """What the policy may allow must work, for exec too."""
    name = "net" if kind == "network" else kind
    script = f"readlink /proc/self/ns/{name}; exec sleep 1000"
    namespaces = replace(NamespacesSpec(), **{kind: "host"})
    spec = await sandbox.spec("sh", "-c", script, namespaces=namespaces)
    client = await sandbox.start(spec)
    created, shim = await sandbox.exec(spec, "readlink", f"/proc/self/ns/{name}")
    attachment = await shim.attach(stdin=False, stdout=True, stderr=True)
    await created.go()
    output = b"".join([data async for _, data in attachment]).decode()
    assert output.strip() == os.readlink(f"/proc/self/ns/{name}")
    await attachment.close()
    await client.signal(9)
    await client.wait()
    assert sandbox.log(spec) == output


async def test_time_namespace(sandbox: Sandbox) -> None:
    spec = await sandbox.spec(
        "readlink", "/proc/self/ns/time", namespaces=NamespacesSpec(time="private")
    )
    _, log = await sandbox.run(spec)
    assert log.startswith("time:[")
    assert log.strip() != os.readlink("/proc/self/ns/time")


async def _spare(
    sandbox: Sandbox, spec: ContainerSpec, *, ahead: bool = False, plan: LaunchPlan | None = None
) -> int:
    """Order a spare like ``spec`` and wait for it: its shim's pid. With ``plan``, in its root."""
    enter = plan is not None
    if plan is None:
        plan = plan_container(sandbox.admitted(spec), FACTS, sandbox.layout(spec))
    sandbox.launcher.prepare(plan, ahead=ahead or enter, enter=enter)
    while ahead and not Path(spec.rootfs.work, "work").exists():
        await asyncio.sleep(0.005)  # overlayfs makes it when it mounts
    while True:
        named = [
            p for p in procfs.descendants(sandbox.launcher.pid) if _comm(p) == "rootless-spare"
        ]
        if len(named) == 2 and all(map(_receives, named)):  # builder and init wait for an order
            return procfs.stat(named[0]).ppid
        await asyncio.sleep(0.005)


def _receives(pid: int) -> bool:
    """Whether it is blocked in recvmsg(2), by proc_pid_syscall(5).

    That cannot be read while it changes its credentials.
    """
    with suppress(ProcessLookupError, PermissionError):
        return Path(f"/proc/{pid}/syscall").read_text().split()[0] == _RECVMSG
    return False


def _comm(pid: int) -> str:
    try:
        return procfs.stat(pid).comm
    except ProcessLookupError:
        return ""


async def test_a_spare_serves_the_next_container(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sh", "-c", "hostname; exec sleep 1000", userns=COMMON)
    spare = await _spare(sandbox, spec)
    client = await sandbox.start(replace(spec, hostname="second"))
    state = read_state(client.directory)
    assert state is not None
    assert state.shim_pid == spare
    while sandbox.log(spec) != "second\n":
        await asyncio.sleep(0.005)
    await client.signal(9)
    await client.wait()


async def test_a_spares_container_may_run_on_every_processor(sandbox: Sandbox) -> None:
    """Its init is kept from one for a moment (``process.waking_elsewhere``)."""
    spec = await sandbox.spec("sed", "-n", "s/^Cpus_allowed:.//p", "/proc/self/status")
    await _spare(sandbox, replace(spec, userns=COMMON))
    _, log = await sandbox.run(replace(spec, userns=COMMON))
    allowed = sum(1 << number for number in os.sched_getaffinity(0))
    assert int(log.replace(",", ""), 16) == allowed


@pytest.mark.parametrize("kind", ["same", "other", "absent"])
async def test_a_spare_waits_in_the_root_file_system(sandbox: Sandbox, kind: str) -> None:
    """It serves the container whose files it has mounted and nobody else; who gets none has own."""
    ready = await sandbox.spec("true", userns=COMMON)
    spec = await sandbox.spec("cat", "/etc/hosts", userns=COMMON)
    plans = []
    for each, text in ((ready, "ahead"), (spec, "own")):
        file = sandbox.base / each.id / "hosts"
        file.write_text(text)
        layout = sandbox.layout(each, etc_files=((str(file), "/etc/hosts"),))
        plans.append(plan_container(sandbox.admitted(each), FACTS, layout))
    if kind == "absent":
        (sandbox.base / ready.id / "hosts").unlink()
    pid = await _spare(sandbox, ready, plan=plans[0])
    assert entry_key(plans[0]) == entry_key(plans[1]) != frame_key(plans[1])
    if kind == "same":
        exchange(sandbox.base / ready.id, sandbox.base / spec.id)
    created = await sandbox.launcher.create(plans[1], key=entry_key(plans[1]))
    created.close_fds()
    await created.go()
    client = ShimClient(sandbox.base / spec.id)
    assert (await client.wait()).code == 0
    assert (created.shim_pid == pid) is (kind != "other")
    assert sandbox.log(spec) == ("ahead" if kind == "same" else "own")


async def test_a_spare_with_another_frame_is_not_used(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("df", "-k", "/dev/shm", userns=COMMON, shm_size=1 << 20)
    ended = os.pidfd_open(await _spare(sandbox, replace(spec, shm_size=1 << 21)))
    _, log = await sandbox.run(spec)
    assert " 1024 " in log
    await asyncio.to_thread(_wait_pidfd, ended)


async def _traced(sandbox: Sandbox, spec: ContainerSpec) -> str:
    """Run it and tell what its builder did."""
    plan = plan_container(sandbox.admitted(spec), FACTS, sandbox.layout(spec))
    created = await sandbox.launcher.create(replace(plan, trace=True))
    created.close_fds()
    await created.ready()
    await created.go()
    assert (await ShimClient(sandbox.base / spec.id).wait()).code == 0
    return str(created.trace)


async def test_a_spare_brings_the_root_file_system_along(sandbox: Sandbox) -> None:
    """By its directories, whatever their path is now."""
    ready = await sandbox.spec("true", userns=COMMON)
    spec = await sandbox.spec("sh", "-c", "echo mine > /file", userns=COMMON)
    await _spare(sandbox, ready, ahead=True)
    exchange(sandbox.base / ready.id, sandbox.base / spec.id)
    assert "MountRootfs" not in await _traced(sandbox, spec)
    assert Path(spec.rootfs.upper, "file").read_text() == "mine\n"
    assert not Path(ready.rootfs.upper, "file").exists()


@pytest.mark.parametrize("change", ["directory", "layers", "options"])
async def test_a_spare_with_another_root_file_system(sandbox: Sandbox, change: str) -> None:
    """It is never that of another container, image or kind."""
    ready = await sandbox.spec("true", userns=COMMON)
    spec = await sandbox.spec("sh", "-c", "ls /file; echo mine > /file", userns=COMMON)
    rootfs = ready.rootfs
    if change == "layers":
        rootfs = replace(rootfs, lowers=(*rootfs.lowers, str(sandbox.base / ready.id)))
    elif change == "options":
        rootfs = replace(rootfs, volatile=not rootfs.volatile)
    await _spare(sandbox, replace(ready, rootfs=rootfs), ahead=True)
    if change != "directory":
        exchange(sandbox.base / ready.id, sandbox.base / spec.id)
    assert "MountRootfs" in await _traced(sandbox, spec)
    assert Path(spec.rootfs.upper, "file").read_text() == "mine\n"
    assert not Path(ready.rootfs.upper, "file").exists()


async def test_a_spare_that_cannot_mount_serves_all_the_same(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("echo", "fine", userns=COMMON)
    broken = replace(spec, rootfs=replace(spec.rootfs, upper=f"{sandbox.base}/absent"))
    plan = plan_container(sandbox.admitted(broken), FACTS, sandbox.layout(broken))
    sandbox.launcher.prepare(plan, ahead=True)
    client = await sandbox.start(spec)
    assert ((await client.wait()).code, sandbox.log(spec)) == (0, "fine\n")


async def test_a_killed_spare_does_no_harm(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("echo", "fine", userns=COMMON)
    spare = await _spare(sandbox, spec)
    ended = os.pidfd_open(spare)
    os.kill(spare, signal.SIGKILL)
    await asyncio.to_thread(_wait_pidfd, ended)
    status, log = await sandbox.run(spec)
    assert (status.code, log) == (0, "fine\n")
