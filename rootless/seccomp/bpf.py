"""Classic BPF as seccomp uses it: checking, evaluating and rewriting filters (seccomp(2)).

A filter is a string of 8-byte ``struct sock_filter``. Evaluation in user space
tells which answer a filter gives without making the call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

from rootless.errors import InvalidInput
from rootless.linux.seccomp import (
    MAX_INSTRUCTIONS,
    RET_ACTION_MASK,
    RET_ERRNO,
    RET_USER_NOTIF,
)

_INSTRUCTION = struct.Struct("=HBBI")
_DATA_SIZE = 64

_LD_ABS = 0x20
_LD_IMM = 0x00
_LD_MEM = 0x60
_LDX_MEM = 0x61
_ST = 0x02
_STX = 0x03
_AND = 0x54
_OR = 0x44
_RSH = 0x74
_LSH = 0x64
_TAX = 0x07
_TXA = 0x87
_JA = 0x05
_JEQ = 0x15
_JGT = 0x25
_JGE = 0x35
_JSET = 0x45
_RET = 0x06

_JUMPS: dict[int, Callable[[int, int], bool]] = {
    _JEQ: lambda a, k: a == k,
    _JGT: lambda a, k: a > k,
    _JGE: lambda a, k: a >= k,
    _JSET: lambda a, k: bool(a & k),
}
_MEMORY = frozenset({_LD_MEM, _LDX_MEM, _ST, _STX})
_PLAIN = frozenset({_LD_IMM, _AND, _OR, _RSH, _LSH, _TAX, _TXA})

Instruction = tuple[int, int, int, int]

OFFSET_NUMBER = 0
OFFSET_ARCH = 4


def decode(bpf: bytes) -> list[Instruction]:
    """The instructions of ``bpf`` after the checks that the kernel makes too."""
    if not bpf or len(bpf) % 8 or len(bpf) // 8 > MAX_INSTRUCTIONS:
        raise InvalidInput(f"not a seccomp filter: {len(bpf)} bytes")
    program: list[Instruction] = [
        (code, jt, jf, k) for code, jt, jf, k in _INSTRUCTION.iter_unpack(bpf)
    ]
    for index, (code, jt, jf, k) in enumerate(program):
        left = len(program) - index - 1
        if code in _JUMPS:
            good = jt < left and jf < left
        elif code == _JA:
            good = k < left
        elif code == _LD_ABS:
            good = k % 4 == 0 and k < _DATA_SIZE
        elif code in _MEMORY:
            good = k < 16
        else:
            good = code in _PLAIN or code == _RET
        if not good:
            raise InvalidInput(f"not a seccomp filter: instruction {index} is {code:#x} {k:#x}")
    if program[-1][0] != _RET:
        raise InvalidInput("not a seccomp filter: it does not end with a return")
    return program


def evaluate(program: Sequence[Instruction], number: int, arch: int, args: Sequence[int]) -> int:
    """The 32-bit answer for a call; ``args`` are up to six 64-bit registers."""
    padded = [value & 0xFFFFFFFFFFFFFFFF for value in (*args, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *padded)
    memory = [0] * 16
    a = x = pc = 0
    while True:
        code, jt, jf, k = program[pc]
        pc += 1
        if code == _RET:
            return k
        if code == _LD_ABS:
            a = int(struct.unpack_from("=I", data, k)[0])
        elif code in _JUMPS:
            pc += jt if _JUMPS[code](a, k) else jf
        elif code == _JA:
            pc += k
        elif code in _MEMORY:
            if code == _ST:
                memory[k] = a
            elif code == _STX:
                memory[k] = x
            elif code == _LD_MEM:
                a = memory[k]
            else:
                x = memory[k]
        else:
            a, x = _compute(code, a, x, k)


def _compute(code: int, a: int, x: int, k: int) -> tuple[int, int]:
    if code == _AND:
        return a & k, x
    if code == _OR:
        return a | k, x
    if code == _RSH:
        return a >> min(k, 32), x
    if code == _LSH:
        return (a << min(k, 32)) & 0xFFFFFFFF, x
    if code == _TAX:
        return a, a
    if code == _TXA:
        return x, x
    return k, x


def notify_denied(bpf: bytes) -> bytes:
    """The same filter with every ``ERRNO`` answer turned into a user notification.

    Whoever holds the listener asks :func:`evaluate` on the original for the
    errno to answer with, so the program sees no difference.
    """
    return b"".join(
        _INSTRUCTION.pack(
            code,
            jt,
            jf,
            RET_USER_NOTIF if code == _RET and k & RET_ACTION_MASK == RET_ERRNO else k,
        )
        for code, jt, jf, k in decode(bpf)
    )


def prefix(bpf: bytes, answers: Mapping[int, Mapping[int, int]]) -> bytes:
    """``bpf`` with fixed answers put before it: audit arch → call number → answer.

    Used for calls newer than libseccomp's tables. One comparison sends the
    common (old, low) numbers past all of it. Jumps in BPF are relative, so the
    original needs no change.
    """
    blocks = []
    for arch, numbers in answers.items():
        if not numbers:
            continue
        body = b"".join(
            _INSTRUCTION.pack(_JEQ, 0, 1, number) + _INSTRUCTION.pack(_RET, 0, 0, answer)
            for number, answer in sorted(numbers.items())
        )
        head = _INSTRUCTION.pack(_LD_ABS, 0, 0, OFFSET_ARCH)
        skip = 1 + len(body) // 8
        head += _INSTRUCTION.pack(_JEQ, 1, 0, arch) + _INSTRUCTION.pack(_JA, 0, 0, skip)
        blocks.append(head + _INSTRUCTION.pack(_LD_ABS, 0, 0, OFFSET_NUMBER) + body)
    if not blocks:
        return bpf
    whole = b"".join(blocks)
    lowest = min(number for numbers in answers.values() for number in numbers)
    guard = _INSTRUCTION.pack(_LD_ABS, 0, 0, OFFSET_NUMBER)
    guard += _INSTRUCTION.pack(_JGE, 1, 0, lowest)
    guard += _INSTRUCTION.pack(_JA, 0, 0, len(whole) // 8)
    return guard + whole + bpf
