"""``~/.docker/config.json``: credentials, their helpers, proxies, default formats.

The file is shared with Docker's own tools; what is not understood is kept.
"""

from __future__ import annotations

import os

from rootless.client import jsonlite, paths
from rootless.errors import InvalidInput, NotFound, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HUB = "https://index.docker.io/v1/"
_HUB_NAMES = ("", "docker.io", "index.docker.io", "registry-1.docker.io")


def config_path() -> str:
    """``$DOCKER_CONFIG/config.json``, else ``~/.docker/config.json``."""
    directory = os.environ.get("DOCKER_CONFIG") or f"{paths.home()}/.docker"
    return f"{directory}/config.json"


def load() -> dict[str, Any]:
    """The configuration; empty when there is no file."""
    path = config_path()
    try:
        with open(path, "rb") as file:
            value = jsonlite.loads(file.read())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        raise InvalidInput(f"{path} is not valid JSON", hint="mend or remove the file") from None
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"{path} does not hold a JSON object")
    return value


def save(config: dict[str, Any]) -> None:
    """Replace the file (mode 0600, temporary name, fsync, rename)."""
    path = os.path.realpath(config_path())
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(jsonlite.pretty(config, indent="\t") + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


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
            hint=f"install it, or remove it from {config_path()}",
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
    config = load()
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
    auths = config.get("auths")
    entry = auths.get(key) if isinstance(auths, dict) else None
    return _from_entry(entry, key) if isinstance(entry, dict) else None


def _from_helper(answer: Any, key: str) -> dict[str, str]:
    name, secret = str(answer.get("Username", "")), str(answer.get("Secret", ""))
    if name == "<token>":
        return {"identitytoken": secret, "serveraddress": key}
    return {"username": name, "password": secret, "serveraddress": key}


def _from_entry(entry: dict[str, Any], key: str) -> dict[str, str] | None:
    from base64 import b64decode

    if entry.get("identitytoken"):
        return {"identitytoken": str(entry["identitytoken"]), "serveraddress": key}
    auth = entry.get("auth")
    if not isinstance(auth, str) or not auth:
        return None
    try:
        name, _, password = b64decode(auth, validate=True).decode().partition(":")
    except ValueError:
        raise InvalidInput(f"{config_path()}: the entry of {key} is not base64") from None
    return {"username": name, "password": password.strip("\0"), "serveraddress": key}


def auth_header(image: str) -> tuple[tuple[str, str], ...]:
    """``X-Registry-Auth`` for an image's registry (base64url JSON), when there is one."""
    found = credentials(registry_of(image))
    return () if found is None else (("X-Registry-Auth", encode_auth(found)),)


def encode_auth(auth: dict[str, str]) -> str:
    """An AuthConfig as the header's value."""
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(jsonlite.dumps(auth).encode()).decode()


def proxy_environment(socket_path: str) -> list[str]:
    """``proxies`` of the configuration as environment variables, as Docker adds them."""
    proxies = load().get("proxies")
    if not isinstance(proxies, dict):
        return []
    chosen = proxies.get(f"unix://{socket_path}") or proxies.get("default")
    if not isinstance(chosen, dict):
        return []
    out = []
    for key, name in (
        ("httpProxy", "HTTP_PROXY"),
        ("httpsProxy", "HTTPS_PROXY"),
        ("ftpProxy", "FTP_PROXY"),
        ("noProxy", "NO_PROXY"),
        ("allProxy", "ALL_PROXY"),
    ):
        if chosen.get(key):
            out += [f"{name}={chosen[key]}", f"{name.lower()}={chosen[key]}"]
    return out
