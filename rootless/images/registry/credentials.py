"""Who we are to a registry: ``~/.docker/config.json`` and its helpers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rootless.errors import InvalidInput, Unavailable
from rootless.images.reference import DEFAULT_DOMAIN
from rootless.images.registry.settings import HUB_AUTH_KEY

_MAX_FILE = 4 << 20
_MAX_ANSWER = 1 << 20
_HELPER = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_HELPER_SECONDS = 60
_TOKEN_MARK = "<token>"  # noqa: S105 - the helper protocol's mark


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and password, or an identity token (OAuth2 refresh token), or a bearer token."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, …)"  # secrets must not get into logs

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def key_of(domain: str) -> str:
    """Under which key credentials for ``domain`` are stored."""
    return HUB_AUTH_KEY if domain == DEFAULT_DOMAIN else domain


def from_config(body: dict[str, Any]) -> Credentials | None:
    """One AuthConfig object of Docker's API or config file; None when it says nothing."""

    def text(key: str) -> str:
        value = body.get(key)
        return value if isinstance(value, str) else ""

    user, password = text("username"), text("password")
    if not user and (packed := text("auth")):
        try:
            pair = base64.b64decode(packed).decode()
        except (binascii.Error, ValueError) as error:
            raise InvalidInput(f"invalid credentials: 'auth' is not base64: {error}") from error
        user, _, password = pair.partition(":")
        password = password.strip("\0")
    found = Credentials(user, password, text("identitytoken"), text("registrytoken"))
    return None if found == Credentials() else found


def _same_host(key: str, domain: str) -> bool:
    bare = key.removeprefix("https://").removeprefix("http://")
    return bare.partition("/")[0] == domain


async def lookup(domain: str, config: Path) -> Credentials | None:
    """Credentials for ``domain`` from Docker's config file ``config``; None without any."""
    path = config.expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
    try:
        if len(data) > _MAX_FILE:
            raise ValueError("it is too large")
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"cannot read {path}: {error}", hint="docker login writes it") from error
    if not isinstance(body, dict):
        raise InvalidInput(f"cannot read {path}: not a JSON object")
    key = key_of(domain)
    helpers = body.get("credHelpers")
    helper = helpers.get(key) or helpers.get(domain) if isinstance(helpers, dict) else None
    helper = helper or body.get("credsStore")
    if isinstance(helper, str) and helper:
        found = await ask_helper(helper, key)
        if found is not None:
            return found
    auths = body.get("auths")
    if not isinstance(auths, dict):
        return None
    entry = auths.get(key)
    if entry is None:
        entry = next((value for name, value in auths.items() if _same_host(name, domain)), None)
    return from_config(entry) if isinstance(entry, dict) else None


async def ask_helper(name: str, key: str) -> Credentials | None:
    """Run ``docker-credential-NAME get``; None when it knows no credentials for ``key``."""
    if not _HELPER.fullmatch(name):
        raise InvalidInput(f"invalid credential helper name '{name[:64]}'")
    program = f"docker-credential-{name}"
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise Unavailable(
            f"cannot run credential helper {program}: {error.strerror}",
            hint="install it, or take it out of ~/.docker/config.json",
        ) from error
    try:
        answer, _ = await asyncio.wait_for(process.communicate(key.encode()), _HELPER_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Unavailable(f"credential helper {program} did not answer") from None
    if process.returncode != 0:
        if b"credentials not found" in answer:
            return None
        text = answer[:200].decode(errors="replace").strip()
        raise Unavailable(f"credential helper {program} failed: {text or 'no output'}")
    try:
        body = json.loads(answer[:_MAX_ANSWER])
        user, secret = str(body["Username"]), str(body["Secret"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unavailable(f"credential helper {program} gave an unreadable answer") from error
    if user == _TOKEN_MARK:
        return Credentials(identity_token=secret)
    return Credentials(user, secret)
