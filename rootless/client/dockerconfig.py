"""``~/.docker/config.json``: credentials and their helpers, and writing it.

The file is shared with Docker's own tools; what is not understood is kept.
"""

from __future__ import annotations

import os

from rootless.client import clientconfig, files, jsonlite
from rootless.errors import InvalidInput, NotFound, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HUB = "https://index.docker.io/v1/"
_HUB_NAMES = ("", "docker.io", "index.docker.io", "registry-1.docker.io")


def load() -> dict[str, Any]:
    """The configuration, to be changed and saved; a file that cannot be read is an error."""
    return clientconfig.read_strictly()


def save(config: dict[str, Any]) -> None:
    """Replace the file (mode 0600, temporary name, fsync, rename)."""
    path = os.path.realpath(clientconfig.path())
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    text = jsonlite.pretty(config, indent="\t") + "\n"
    files.replace(path, text.encode(), mode=0o600)


def registry_key(server: str) -> str:
    """The key under ``auths``: Docker Hub's is a URL, others are HOST[:PORT]."""
    host = server.removeprefix("https://").removeprefix("http://").split("/", 1)[0]
    return HUB if host in _HUB_NAMES else host


def registry_of(image: str) -> str:
    """The registry in an image's name (the distribution grammar's rule)."""
    first, mark, _ = image.partition("/")
    if mark and ("." in first or ":" in first or first == "localhost"):
        return first
    return "docker.io"


def helper_for(config: dict[str, Any], key: str) -> str | None:
    """The credential helper that keeps this registry's credentials."""
    helpers = config.get("credHelpers")
    if isinstance(helpers, dict) and isinstance(helpers.get(key), str):
        return str(helpers[key])
    store = config.get("credsStore")
    return store if isinstance(store, str) and store else None


def call_helper(helper: str, action: str, text: str) -> str:
    """Run ``docker-credential-HELPER ACTION`` with ``text`` as its input."""
    import subprocess

    if "/" in helper:
        raise InvalidInput(f"invalid credential helper name: {helper!r}")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, action], input=text.encode(), capture_output=True, check=False, timeout=60
        )
    except FileNotFoundError:
        raise NotFound(
            f"the credential helper {program} is not installed",
            hint=f"install it, or remove it from {clientconfig.path()}",
        ) from None
    except subprocess.TimeoutExpired:
        raise RootlessError(f"{program} {action} does not answer") from None
    output = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode:
        if "credentials not found" in output:
            raise NotFound(output)
        raise RootlessError(f"{program} {action} failed: {output or done.returncode}")
    return output


def credentials(registry: str) -> dict[str, str] | None:
    """The API's AuthConfig for a registry, or None."""
    config = clientconfig.read()
    key = registry_key(registry)
    helper = helper_for(config, key)
    if helper:
        try:
            answer = jsonlite.loads(call_helper(helper, "get", key))
        except NotFound as error:
            if "credentials not found" not in error.message:
                raise
        except ValueError:
            raise RootlessError(f"docker-credential-{helper} did not answer in JSON") from None
        else:
            return _from_helper(answer, key)
    entry = _entry(config.get("auths"), key)
    return _from_entry(entry, key) if isinstance(entry, dict) else None


def _entry(auths: Any, key: str) -> Any:
    """The entry of a registry, also where an old client wrote it: under a URL."""
    if not isinstance(auths, dict):
        return None
    if key in auths:
        return auths[key]
    return next((auths[name] for name in auths if registry_key(name) == key), None)


def _from_helper(answer: Any, key: str) -> dict[str, str]:
    if not isinstance(answer, dict):
        raise RootlessError(f"the credential helper's answer for {key} is no JSON object")
    name, secret = str(answer.get("Username", "")), str(answer.get("Secret", ""))
    if name == "<token>":
        return {"identitytoken": secret, "serveraddress": key}
    return {"username": name, "password": secret, "serveraddress": key}


def _from_entry(entry: dict[str, Any], key: str) -> dict[str, str] | None:
    from base64 import b64decode

    for kind in ("identitytoken", "registrytoken"):
        if entry.get(kind):
            return {kind: str(entry[kind]), "serveraddress": key}
    auth = entry.get("auth")
    if not isinstance(auth, str) or not auth:
        return None
    try:
        name, _, password = b64decode(auth, validate=True).decode().partition(":")
    except ValueError:
        raise InvalidInput(f"{clientconfig.path()}: the entry of {key} is not base64") from None
    return {"username": name, "password": password.strip("\0"), "serveraddress": key}


def auth_header(image: str) -> tuple[tuple[str, str], ...]:
    """``X-Registry-Auth`` for an image's registry (base64url JSON), when there is one."""
    found = credentials(registry_of(image))
    return () if found is None else (("X-Registry-Auth", encode_auth(found)),)


def encode_auth(auth: dict[str, str]) -> str:
    """An AuthConfig as the header's value."""
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(jsonlite.dumps(auth).encode()).decode()
