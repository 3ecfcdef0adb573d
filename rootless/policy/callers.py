"""Callers as people write them: in ``can-i --as`` and in tests of policies."""

from __future__ import annotations

import pwd

from rootless.errors import InvalidInput
from rootless.model.identity import Identity

_SPIFFE, _CERTIFICATE = "spiffe://", "certificate:"


def parse_identity(text: str) -> Identity:
    """An identity as policies name it: ``uid:1000``, a user's name, a SPIFFE ID.

    ``certificate:NAME`` is one by a certificate without a SPIFFE ID.
    """
    if text.startswith(_SPIFFE):
        _, _, path = text.removeprefix(_SPIFFE).partition("/")
        parts = path.split("/")
        if not path or not all(parts):
            raise InvalidInput(
                f"not a SPIFFE ID: {text!r}", hint="write spiffe://DOMAIN/role/ROLE/NAME"
            )
        role = parts[1] if len(parts) == 3 and parts[0] == "role" else None
        return Identity("certificate", parts[-1], role=role, uri=text)
    if text.startswith(_CERTIFICATE) and text != _CERTIFICATE:
        return Identity("certificate", text.removeprefix(_CERTIFICATE))
    number = text.removeprefix("uid:")
    try:
        entry = pwd.getpwuid(int(number)) if number.isdecimal() else pwd.getpwnam(text)
    except (KeyError, OverflowError):
        if not text.startswith("uid:") or not number.isdecimal():
            raise InvalidInput(
                f"no such identity: {text!r}",
                hint="write uid:NUMBER, the name of a user here, or a SPIFFE ID",
            ) from None
        return Identity("unix", number, uid=int(number))
    return Identity("unix", entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)
