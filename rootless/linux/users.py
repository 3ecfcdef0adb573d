"""Users and groups of the image's own passwd(5) and group(5) files; nothing is executed."""

from __future__ import annotations

from dataclasses import dataclass

from rootless.errors import StartFailed

MAX_FILE = 4 << 20
_MAX_ID = 0xFFFFFFFE


@dataclass(frozen=True, slots=True)
class ResolvedUser:
    """Ids inside the container; ``groups`` are the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def _lines(content: bytes | None, columns: int) -> list[list[str]]:
    if content is None:
        return []
    rows = []
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        parts = line.strip().split(":")
        if line and not line.startswith("#") and len(parts) >= columns:
            rows.append(parts)
    return rows


def _number(text: str) -> int | None:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        return None
    value = int(text)
    return value if value <= _MAX_ID else None


def _refuse(what: str, name: str, file: str) -> StartFailed:
    return StartFailed(
        f"unable to find {what} {name}: no matching entries in {file} file",
        step="ResolveUser",
        exit_code=126 if what == "group" else 125,
        hint=f"name a {what} of the image, or a number",
    )


def resolve(
    wanted: str, extra: tuple[str, ...], passwd: bytes | None, group: bytes | None
) -> ResolvedUser:
    """Resolve ``USER[:GROUP]`` with names or numbers, as Docker does.

    A number without a passwd entry is taken as it is, with gid 0 and home /.
    Supplementary groups are the user's memberships, unless a group was given,
    plus ``extra`` (``--group-add``).
    """
    user, _, wanted_group = wanted.partition(":")
    user = user or "0"
    rows = _lines(passwd, 7)
    groups = _lines(group, 4)
    number = _number(user)
    entry = next(
        (r for r in rows if r[0] == user),
        next((r for r in rows if number is not None and _number(r[2]) == number), None),
    )
    if entry is not None:
        uid, gid = _number(entry[2]), _number(entry[3])
        if uid is None or gid is None:
            raise _refuse("user", user, "passwd")
        name, home = entry[0], entry[5] or "/"
    elif number is not None:
        uid, gid, name, home = number, 0, "", "/"
    else:
        raise _refuse("user", user, "passwd")

    supplementary: list[int] = []
    if wanted_group:
        gid = _group_id(wanted_group, groups)
    elif name:
        for row in groups:
            value = _number(row[2])
            if value is not None and name in row[3].split(","):
                supplementary.append(value)
    supplementary += [_group_id(item, groups) for item in extra]
    return ResolvedUser(uid, gid, tuple(dict.fromkeys(supplementary)), home)


def _group_id(wanted: str, rows: list[list[str]]) -> int:
    for row in rows:
        value = _number(row[2])
        if row[0] == wanted and value is not None:
            return value
    number = _number(wanted)
    if number is None:
        raise _refuse("group", wanted, "group")
    return number
