"""``rootless login`` and ``logout``: credentials in ~/.docker/config.json or a helper."""

from __future__ import annotations

import sys

from rootless.cli.command import BOOL, STRING, Command, Invocation
from rootless.cli.flags import UsageError
from rootless.client import clientconfig, dockerconfig, jsonlite
from rootless.client.http import ApiError
from rootless.errors import NotFound


def _ask(call: Invocation) -> tuple[str, str]:
    name, password = call["username"], call["password"]
    if call["password-stdin"]:
        if not name:
            raise UsageError("Must provide --username with --password-stdin", status=1)
        if password:
            raise UsageError("--password and --password-stdin are mutually exclusive", status=1)
        password = sys.stdin.read().rstrip("\r\n")
        if not password:
            raise UsageError("no password came on stdin", status=1)
        return name, password
    if password:
        sys.stderr.write("WARNING! --password on the command line is seen by all; use stdin.\n")
    if (not name or not password) and not sys.stdin.isatty():
        raise UsageError(
            "cannot ask for credentials: the input is not a terminal",
            hint="use --username NAME --password-stdin",
            status=1,
        )
    if not name:
        sys.stdout.write("Username: ")
        sys.stdout.flush()
        name = sys.stdin.readline().strip()
    if not password:
        from getpass import getpass

        try:
            password = getpass("Password: ")
        except EOFError:
            sys.stderr.write("\n")
    if not name or not password:
        raise UsageError("username and password are required", status=1)
    return name, password


def _login(call: Invocation) -> int:
    key = dockerconfig.registry_key(call.args[0] if call.args else "")
    if not call["username"] and not call["password"] and _log_in_again(call, key):
        return 0
    name, password = _ask(call)
    auth = {"username": name, "password": password, "serveraddress": key}
    answer = None
    try:
        answer = call.client.post("/auth", auth)
    except ApiError as error:
        if error.status not in (404, 501):
            raise
        sys.stderr.write("WARNING: this daemon cannot check credentials; they are stored as is.\n")
    token = answer.get("IdentityToken") if isinstance(answer, dict) else None
    _store(key, name, password, token)
    sys.stdout.write(f"{(answer or {}).get('Status') or 'Login Succeeded'}\n")
    return 0


def _log_in_again(call: Invocation, key: str) -> bool:
    """Try what is kept already, as Docker does before it asks."""
    kept = dockerconfig.credentials(key)
    if kept is None:
        return False
    sys.stdout.write("Authenticating with existing credentials...\n")
    sys.stdout.flush()
    try:
        answer = call.client.post("/auth", kept)
    except ApiError as error:
        sys.stderr.write(f"Login did not succeed, error: {error.message}\n")
        return False
    sys.stdout.write(f"{(answer or {}).get('Status') or 'Login Succeeded'}\n")
    return True


def _store(key: str, name: str, password: str, token: str | None) -> None:
    config = dockerconfig.load()
    helper = dockerconfig.helper_for(config, key)
    auths = config.setdefault("auths", {})
    if helper:
        secret = {
            "ServerURL": key,
            "Username": "<token>" if token else name,
            "Secret": token or password,
        }
        dockerconfig.call_helper(helper, "store", jsonlite.dumps(secret))
        auths[key] = {}
    else:
        from base64 import b64encode

        auths[key] = {"auth": b64encode(f"{name}:{password}".encode()).decode()}
        if token:
            auths[key] = {
                "auth": b64encode(f"{name}:".encode()).decode(),
                "identitytoken": token,
            }
        sys.stderr.write(
            f"WARNING! Credentials are stored unencrypted in '{clientconfig.path()}'.\n"
        )
    dockerconfig.save(config)


def _logout(call: Invocation) -> int:
    key = dockerconfig.registry_key(call.args[0] if call.args else "")
    config = dockerconfig.load()
    auths = config.get("auths")
    known = isinstance(auths, dict) and auths.pop(key, None) is not None
    helper = dockerconfig.helper_for(config, key)
    if helper:
        try:
            dockerconfig.call_helper(helper, "erase", key)
        except NotFound as error:
            if "credentials not found" not in error.message:
                raise
    elif not known:
        sys.stdout.write(f"Not logged in to {key}\n")
        return 0
    if known:
        dockerconfig.save(config)
    sys.stdout.write(f"Removing login credentials for {key}\n")
    return 0


LOGIN = Command(
    _login,
    usage="login [OPTIONS] [SERVER]",
    summary="Authenticate to a registry (Docker Hub if no server is specified)",
    description="Kept in ~/.docker/config.json, or by its credential helper (credsStore).",
    flags=(
        ("password", "p", STRING, "", "Password or token"),
        ("password-stdin", "", BOOL, False, "Take the password from stdin"),
        ("username", "u", STRING, "", "Username"),
    ),
    max_args=1,
    examples="pass show registry | rootless login -u me --password-stdin registry.example.org",
)
LOGOUT = Command(
    _logout,
    usage="logout [SERVER]",
    summary="Log out from a registry",
    max_args=1,
    examples="rootless logout registry.example.org",
)
