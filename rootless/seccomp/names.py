"""Names and numbers of system calls: libseccomp's tables and what is newer than they are."""

from __future__ import annotations

from rootless.seccomp.arches import BY_AUDIT, Arch

# include/uapi/asm-generic/unistd.h; one number on every architecture since Linux 5.1.
_SHARED = (
    "pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount "
    "fsopen fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 "
    "process_madvise epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset "
    "landlock_add_rule landlock_restrict_self memfd_secret process_mrelease futex_waitv "
    "set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake futex_wait "
    "futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal "
    "setxattrat getxattrat listxattrat removexattrat open_tree_attr file_getattr file_setattr "
    "listns"
).split()
_FIRST_SHARED = 424

_SHARED_NUMBERS = {name: _FIRST_SHARED + offset for offset, name in enumerate(_SHARED)}
_OWN_NUMBERS = {
    "X86_64": {"uretprobe": 335, "uprobe": 336},
    "RISCV64": {"riscv_hwprobe": 258},
}
_NOT_WIRED = {"memfd_secret": frozenset({"ARM", "PPC", "PPC64", "PPC64LE"})}
"""Numbers that are reserved but answer ENOSYS on these architectures."""

_KNOWN = frozenset(_SHARED_NUMBERS) | {name for own in _OWN_NUMBERS.values() for name in own}


def recent_number(name: str, arch: Arch) -> int | None:
    """The number of a call that libseccomp may be too old to know, or None."""
    own = _OWN_NUMBERS.get(arch.scmp, {}).get(name)
    if own is not None:
        return own
    if not arch.shared_numbers or arch.scmp in _NOT_WIRED.get(name, ()):
        return None
    return _SHARED_NUMBERS.get(name)


def is_recent(name: str) -> bool:
    """Whether some architecture has this call, by the tables here."""
    return name in _KNOWN


def call_name(number: int, audit_arch: int) -> str:
    """The call's name for people; ``syscall 999`` when nobody knows it.

    Imports pyseccomp on first use, which costs some 30 ms.
    """
    arch = BY_AUDIT.get(audit_arch)
    if arch is not None:
        from pyseccomp import resolve_syscall

        try:
            return str(resolve_syscall(audit_arch, number).decode())
        except ValueError:
            for name in _KNOWN:
                if recent_number(name, arch) == number:
                    return name
    return f"syscall {number}"
