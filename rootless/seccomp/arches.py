"""Architectures by each of their names: uname(2)'s, OCI's, Go's (in Docker's profiles), audit's.

Audit values are those of linux/audit.h: the ELF machine, with bit 31 for
64 bits and bit 30 for little endian.
"""

from __future__ import annotations

from dataclasses import dataclass

_64 = 0x80000000
_LE = 0x40000000
_N32 = 0x20000000


@dataclass(frozen=True, slots=True)
class Arch:
    """``scmp`` without the prefix ``SCMP_ARCH_``; ``go`` as in ``includes.arches``.

    ``shared_numbers``: calls from 424 (Linux 5.1) on have the number that all
    architectures share; the MIPS family adds an offset of its own.
    """

    scmp: str
    go: str
    audit: int
    machines: tuple[str, ...] = ()
    shared_numbers: bool = True

    @property
    def name(self) -> str:
        """As in a profile: ``SCMP_ARCH_X86_64``."""
        return f"SCMP_ARCH_{self.scmp}"


ARCHES = (
    Arch("X86_64", "amd64", 62 | _64 | _LE, ("x86_64",)),
    Arch("X86", "x86", 3 | _LE, ("i386", "i686")),
    # x32 has x86_64's audit value; its calls are told apart by bit 30 of the number.
    Arch("X32", "x32", 62 | _LE, shared_numbers=False),
    Arch("ARM", "arm", 40 | _LE, ("armv6l", "armv7l", "armv8l")),
    Arch("AARCH64", "arm64", 183 | _64 | _LE, ("aarch64",)),
    Arch("MIPS", "mips", 8, ("mips",), shared_numbers=False),
    Arch("MIPS64", "mips64", 8 | _64, ("mips64",), shared_numbers=False),
    Arch("MIPS64N32", "mips64n32", 8 | _64 | _N32, shared_numbers=False),
    Arch("MIPSEL", "mipsel", 8 | _LE, shared_numbers=False),
    Arch("MIPSEL64", "mipsel64", 8 | _64 | _LE, shared_numbers=False),
    Arch("MIPSEL64N32", "mipsel64n32", 8 | _64 | _LE | _N32, shared_numbers=False),
    Arch("PARISC", "parisc", 15, ("parisc",)),
    Arch("PARISC64", "parisc64", 15 | _64, ("parisc64",)),
    Arch("PPC", "ppc", 20, ("ppc",)),
    Arch("PPC64", "ppc64", 21 | _64, ("ppc64",)),
    Arch("PPC64LE", "ppc64le", 21 | _64 | _LE, ("ppc64le",)),
    Arch("S390", "s390", 22, ("s390",)),
    Arch("S390X", "s390x", 22 | _64, ("s390x",)),
    Arch("RISCV64", "riscv64", 243 | _64 | _LE, ("riscv64",)),
    Arch("LOONGARCH64", "loongarch64", 258 | _64 | _LE, ("loongarch64",)),
)

BY_NAME = {arch.name: arch for arch in ARCHES}
BY_GO_NAME = {arch.go: arch for arch in ARCHES}
BY_MACHINE = {machine: arch for arch in ARCHES for machine in arch.machines}
BY_AUDIT = {arch.audit: arch for arch in ARCHES}
