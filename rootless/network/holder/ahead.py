"""What the holder needs once and what is large to make: by a child, which is gone afterwards."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rootless.errors import RootlessError
from rootless.network.holder import templates
from rootless.network.holder.templates import Slot, Template
from rootless.resources import resource_path


@dataclass(frozen=True, slots=True)
class Prepared:
    """Netlink messages by name, and what the kernel is given of system call filters."""

    messages: dict[str, Template]
    own_calls: bytes
    """The filter of the holder itself."""
    small_calls: bytes
    """That of its children."""


def begin() -> Callable[[], Prepared]:
    """Have a child make it all; what is returned waits for it and gives it.

    RootlessError from that when the child failed; it has said why on standard error.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with open(write, "wb", closefd=False) as file:
                file.write(json.dumps(_made()).encode())
            status = 0
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            os._exit(status)
    os.close(write)

    def finish() -> Prepared:
        with open(read, "rb") as file:
            told = file.read()
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            raise RootlessError(
                "the network's messages and filters cannot be made", hint="see holder.log"
            )
        return _understood(json.loads(told))

    return finish


def _made() -> dict[str, Any]:
    return {
        "messages": {
            name: [template.data.hex(), [[f, s.kind, s.offsets] for f, s in template.slots.items()]]
            for name, template in templates.make_all().items()
        },
        "own": _compiled("network-holder").hex(),
        "small": _compiled("network").hex(),
    }


def _understood(told: dict[str, Any]) -> Prepared:
    return Prepared(
        {
            name: Template(
                bytes.fromhex(data), {f: Slot(kind, tuple(offsets)) for f, kind, offsets in slots}
            )
            for name, (data, slots) in told["messages"].items()
        },
        bytes.fromhex(told["own"]),
        bytes.fromhex(told["small"]),
    )


def _compiled(name: str) -> bytes:
    """The filter of ``profiles/seccomp/NAME.json``."""
    from rootless.seccomp.compile import compile_filter
    from rootless.seccomp.profile import parse_profile, resolve

    machine = os.uname()
    major, minor = machine.release.split(".")[:2]
    kernel = int(major), int("".join(filter(str.isdigit, minor)))
    text = resource_path("profiles", f"seccomp/{name}.json").read_text(encoding="utf-8")
    return compile_filter(resolve(parse_profile(text), (), machine.machine, kernel)).loaded
