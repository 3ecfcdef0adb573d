"""From a resolved profile to the bytes the kernel loads, through libseccomp, with a cache.

libseccomp compiles (25 to 40 ms, import included); init only loads bytes. The
cache is keyed by everything the result depends on, and whatever is read from
it is checked, so that a damaged file costs time and never protection.
"""

from __future__ import annotations

import hashlib
import json
import os
import sysconfig
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootless.errors import HostUnsupported, InvalidInput
from rootless.linux import seccomp
from rootless.seccomp import bpf as bpf_code
from rootless.seccomp.names import is_recent, recent_number
from rootless.seccomp.profile import (
    OPERATORS,
    ResolvedProfile,
    ResolvedRule,
    parse_profile,
    resolve,
)
from rootless.seccomp.verify import verify

if TYPE_CHECKING:
    from types import ModuleType

_FORMAT = b"rlsecc1\n"
_MAX_CACHED = 1 << 17
_BINARY_TREE = 2
_UNKNOWN = -1
_SOCKETCALL = {
    "X86": 102, "PPC": 102, "PPC64": 102, "PPC64LE": 102, "S390": 102, "S390X": 102,
    "MIPS": 4102, "MIPSEL": 4102,
}  # fmt: skip
"""Numbers of socketcall(2) where it exists."""


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """``bpf`` is the filter as profiles mean it; ``loaded`` is what init loads.

    They differ with ``notify_denied``: then ``loaded`` sends every denied call
    to the listener, and ``bpf`` tells the errno to answer with. ``flags`` are
    for :func:`rootless.linux.seccomp.load_filter`, without NEW_LISTENER.
    ``gaps`` are names that libseccomp does not know and that therefore get the
    profile's (denying) default.
    """

    bpf: bytes
    loaded: bytes
    flags: int
    gaps: tuple[str, ...]

    @property
    def notifies(self) -> bool:
        """Whether it must be loaded with ``FLAG_NEW_LISTENER``."""
        return self.loaded != self.bpf


def _denies(action: int) -> bool:
    return action not in {seccomp.RET_ALLOW, seccomp.RET_LOG}


@lru_cache(maxsize=1)
def library_identity() -> str:
    """Which libseccomp compiles: file name, size and time, without loading it when possible."""
    directory = sysconfig.get_config_var("MULTIARCH") or ""
    for parent in (f"/usr/lib/{directory}", f"/lib/{directory}", "/usr/lib64", "/usr/lib"):
        path = Path(parent) / "libseccomp.so.2"
        if path.exists():
            real = path.resolve()
            facts = real.stat()
            return f"{real.name}:{facts.st_size}:{facts.st_mtime_ns}"
    return library_version()


def library_version() -> str:
    """libseccomp's version, ``2.5.4``."""
    import ctypes

    class Version(ctypes.Structure):
        _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))

    library = _pyseccomp()._libseccomp
    library.seccomp_version.restype = ctypes.POINTER(Version)
    found = library.seccomp_version().contents
    return f"{found.major}.{found.minor}.{found.micro}"


def _pyseccomp() -> ModuleType:
    try:
        import pyseccomp
    except RuntimeError as error:
        raise HostUnsupported(
            "libseccomp is not installed, so no seccomp filter can be compiled",
            hint="sudo apt-get install libseccomp2",
        ) from error
    module: ModuleType = pyseccomp
    return module


def _new_filter(library: ModuleType, profile: ResolvedProfile) -> Any:
    native = profile.arches[0]
    made = library.SyscallFilter(profile.default)
    made.set_attr(library.Attr.CTL_OPTIMIZE, _BINARY_TREE)
    # Other ABIs are a way around argument filters: no such call is ever meant.
    made.set_attr(library.Attr.ACT_BADARCH, seccomp.RET_KILL_PROCESS)
    try:
        for arch in profile.arches:
            if arch.audit != library.system_arch():
                made.add_arch(arch.audit)
        if native.audit != library.system_arch():
            made.remove_arch(library.system_arch())
    except OSError as error:
        raise HostUnsupported(
            f"libseccomp {library_version()} does not know one of the architectures "
            f"{', '.join(a.name for a in profile.arches)}",
            hint="upgrade libseccomp, or take the architecture out of the profile",
        ) from error
    return made


def _closed_socketcall(profile: ResolvedProfile) -> dict[int, dict[int, int]]:
    """Where socketcall(2) must answer the (denying) default: audit arch → number → answer.

    Rules for ``socket`` with arguments make libseccomp let socketcall through
    with those arguments dropped, because they are in memory there; and it
    refuses a rule that only repeats the default. Hence an answer of our own,
    unless the profile gives socketcall another one.
    """
    explicit = any(r.name == "socketcall" and r.action != profile.default for r in profile.rules)
    filtered = any(r.args and r.name in {"socket", "socketpair"} for r in profile.rules)
    if explicit or not filtered or not _denies(profile.default):
        return {}
    return {
        arch.audit: {_SOCKETCALL[arch.scmp]: profile.default}
        for arch in profile.arches
        if arch.scmp in _SOCKETCALL
    }


def _recent(
    rule: ResolvedRule, profile: ResolvedProfile, answers: dict[int, dict[int, int]]
) -> bool:
    """Answer a call that libseccomp does not know; False leaves it to the default."""
    if not is_recent(rule.name):
        if _denies(rule.action) and not _denies(profile.default):
            raise InvalidInput(
                f"seccomp profile: syscalls[{rule.index}]: no system call is called {rule.name}, "
                "so the profile cannot deny it"
            )
        return False
    if rule.args:
        if rule.action != profile.default and _denies(rule.action):
            raise HostUnsupported(
                f"seccomp profile: syscalls[{rule.index}]: libseccomp {library_version()} is too "
                f"old to filter the arguments of {rule.name}",
                hint="upgrade libseccomp, or deny the call without arguments",
            )
        return False
    for arch in profile.arches:
        number = recent_number(rule.name, arch)
        if number is not None:
            answers[arch.audit][number] = rule.action
    return any(recent_number(rule.name, arch) is not None for arch in profile.arches)


def _by_number(
    library: ModuleType, rule: ResolvedRule, number: int, answers: dict[int, dict[int, int]]
) -> bool:
    """Answer a call that libseccomp would take for another one; False when it does not.

    Calls that the machine's own architecture lacks have a negative number, from
    which libseccomp finds the other architectures' ones. Version 2.6.0 gave one
    such number to two calls, sys_debug_setcontext and switch_endian of PowerPC.
    """
    if (
        number >= 0
        or rule.args
        or library.resolve_syscall(library.Arch.NATIVE, number).decode() == rule.name
    ):
        return False
    for audit, known in answers.items():
        own = library.resolve_syscall(audit, rule.name)
        if own >= 0:
            known[own] = rule.action
    return True


def _add(library: ModuleType, made: Any, rule: ResolvedRule, number: int) -> None:
    args = [library.Arg(c.index, OPERATORS[c.op], c.value, c.value_two) for c in rule.args]
    try:
        made.add_rule(rule.action, number, *args)
    except OSError as error:
        raise InvalidInput(
            f"seccomp profile: syscalls[{rule.index}]: libseccomp refuses the rule for "
            f"{rule.name}: {error.strerror}",
            hint="the same condition may have been given two actions",
        ) from error


def _compile(profile: ResolvedProfile) -> tuple[bytes, tuple[str, ...]]:
    library = _pyseccomp()
    made = _new_filter(library, profile)
    answers: dict[int, dict[int, int]] = {arch.audit: {} for arch in profile.arches}
    gaps: dict[str, None] = {}
    numbers: dict[str, int] = {}
    closed = _closed_socketcall(profile)
    if closed:
        # Never reached, the answer before it comes first; it keeps libseccomp from
        # adding (contradicting) rules for socketcall with the arguments dropped.
        made.add_rule(seccomp.RET_KILL_PROCESS, "socketcall")
    # A rule for socketcall itself must come before those libseccomp derives for it.
    for rule in sorted(profile.rules, key=lambda r: r.name != "socketcall"):
        if rule.action == profile.default:
            continue  # libseccomp refuses rules that repeat the default
        number = library.resolve_syscall(library.Arch.NATIVE, rule.name)
        if number == _UNKNOWN:
            if not _recent(rule, profile, answers):
                gaps[rule.name] = None
        elif not _by_number(library, rule, number, answers):
            _add(library, made, rule, number)
            own = library.resolve_syscall(profile.arches[0].audit, rule.name)
            if own >= 0:
                numbers[rule.name] = own
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0)
        code = file.read()
    whole = bpf_code.prefix(bpf_code.prefix(code, closed), answers)
    verify(bpf_code.decode(whole), profile, numbers, library_version())
    return whole, tuple(gaps)


def _key(profile: ResolvedProfile) -> str:
    text = json.dumps(
        [
            profile.default,
            [arch.name for arch in profile.arches],
            [
                [r.name, r.action, [[c.index, c.op, c.value, c.value_two] for c in r.args]]
                for r in profile.rules
            ],
            library_identity(),
        ],
        separators=(",", ":"),
    )
    return hashlib.sha256(_FORMAT + text.encode()).hexdigest()


def _read(path: Path) -> tuple[bytes, tuple[str, ...]] | None:
    """A cached result, or None when it is absent, not ours, or damaged in any way."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with open(fd, "rb") as file:
        facts = os.fstat(fd)
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
            return None
        data = file.read(_MAX_CACHED + 1)
    head = len(_FORMAT) + 32
    body = data[head:]
    if data[: len(_FORMAT)] != _FORMAT or len(data) > _MAX_CACHED:
        return None
    if hashlib.sha256(path.name.encode() + body).digest() != data[len(_FORMAT) : head]:
        return None
    names, _, code = body.partition(b"\n")
    try:
        bpf_code.decode(code)
        return code, tuple(json.loads(names))
    except (InvalidInput, ValueError):
        return None


def _write(path: Path, data: bytes) -> None:
    """Store a result: temporary name, sync, rename; mode 0600 in a 0700 directory."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix="tmp-")
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _cached_form(name: str, code: bytes, gaps: tuple[str, ...]) -> bytes:
    body = json.dumps(gaps).encode() + b"\n" + code
    return _FORMAT + hashlib.sha256(name.encode() + body).digest() + body


def store_raw(directory: Path, bpf: bytes) -> Path:
    """A file of nothing but the instructions, named by their SHA-256, for a launch plan.

    Present and intact files are left alone; see :func:`read_raw`.
    """
    path = directory / f"{hashlib.sha256(bpf).hexdigest()}.raw"
    try:
        read_raw(path)
    except (OSError, InvalidInput):
        _write(path, bpf)
    return path


def read_raw(path: Path) -> bytes:
    """The instructions :func:`store_raw` wrote; refuses a file that is not what its name says."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        code = file.read(_MAX_CACHED)
    if hashlib.sha256(code).hexdigest() != path.name.removesuffix(".raw"):
        raise InvalidInput(f"seccomp filter {path} is damaged", hint=f"rm {path}")
    return code


def compile_filter(
    profile: ResolvedProfile,
    *,
    log: bool = False,
    notify_denied: bool = False,
    cache_dir: Path | None = None,
) -> CompiledFilter:
    """The kernel's filter for a resolved profile.

    ``log`` adds the kernel's own log of denied calls (SECCOMP_FILTER_FLAG_LOG,
    readable by who may read the kernel log); ``notify_denied`` sends denied
    calls to a listener instead, which needs no right. Raises InvalidInput for a
    profile that cannot be kept, HostUnsupported when libseccomp is the reason.
    """
    cached = None
    path = None
    if cache_dir is not None:
        path = cache_dir / f"{_key(profile)}.bpf"
        cached = _read(path)
    code, gaps = cached or _compile(profile)
    if path is not None and cached is None:
        _write(path, _cached_form(path.name, code, gaps))
    return CompiledFilter(
        bpf=code,
        loaded=bpf_code.notify_denied(code) if notify_denied else code,
        flags=profile.flags | (seccomp.FLAG_LOG if log else 0),
        gaps=gaps,
    )


def filter_for(
    text: str,
    caps: Collection[str],
    arch: str,
    kernel: tuple[int, int],
    *,
    cache_dir: Path,
    log: bool = False,
    notify_denied: bool = False,
) -> CompiledFilter:
    """Everything from a profile's JSON to the filter; what repeats is remembered.

    The last results are kept in memory too: the path of ``run`` costs
    microseconds after the first container of a kind.
    """
    return _remembered(
        text, frozenset(caps), arch, kernel, cache_dir, log=log, notify_denied=notify_denied
    )


@lru_cache(maxsize=32)
def _remembered(
    text: str,
    caps: frozenset[str],
    arch: str,
    kernel: tuple[int, int],
    cache_dir: Path,
    *,
    log: bool,
    notify_denied: bool,
) -> CompiledFilter:
    return compile_filter(
        resolve(parse_profile(text), caps, arch, kernel),
        log=log,
        notify_denied=notify_denied,
        cache_dir=cache_dir,
    )
