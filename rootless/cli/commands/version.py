"""``rootless version``."""

from __future__ import annotations

import sys

from rootless import __version__
from rootless.cli.command import INSPECT_FORMAT_HELP, STRING, Command, Invocation
from rootless.client.http import API
from rootless.errors import RootlessError

_FIELDS = (
    ("Version", "Version"),
    ("ApiVersion", "API version"),
    ("GoVersion", "Go version"),
    ("PythonVersion", "Python version"),
    ("GitCommit", "Git commit"),
    ("BuildTime", "Built"),
)


def _client() -> dict[str, object]:
    info = sys.version_info
    return {
        "Platform": {"Name": "rootless"},
        "Version": __version__,
        "ApiVersion": API[2:],
        "DefaultAPIVersion": API[2:],
        "PythonVersion": f"{info[0]}.{info[1]}.{info[2]}",
        "Os": "linux",
        "Arch": "",
    }


def _section(title: str, data: dict[str, object]) -> list[str]:
    platform = data.get("Platform")
    name = platform.get("Name", "") if isinstance(platform, dict) else ""
    lines = [f"{title}: {name}".rstrip()]
    lines += [f" {label + ':':<18}{data[key]}" for key, label in _FIELDS if data.get(key)]
    if data.get("Os"):
        arch = f"/{data['Arch']}" if data.get("Arch") else ""
        lines.append(f" {'OS/Arch:':<18}{data['Os']}{arch}")
    if data.get("MinAPIVersion"):
        lines.append(f" {'Minimum API:':<18}{data['MinAPIVersion']}")
    return lines


def run(call: Invocation) -> int:
    """Print the client's and the server's versions; status 1 without a server."""
    client = _client()
    server: dict[str, object] | None = None
    failure: RootlessError | None = None
    try:
        server = call.client.get("/version")
    except RootlessError as error:
        failure = error
    if isinstance(server, dict):
        client["Arch"] = server.get("Arch", "")
    if call["format"]:
        from rootless.cli.formats import print_one

        print_one(call["format"], {"Client": client, "Server": server})
    else:
        lines = _section("Client", client)
        if isinstance(server, dict):
            lines += ["", *_section("Server", server)]
            for component in server.get("Components") or ():  # type: ignore[attr-defined]  # the daemon's JSON
                if component.get("Name") != "Engine":
                    lines += [f" {component.get('Name')}:"]
                    lines += [f"  {'Version:':<17}{component.get('Version')}"]
        sys.stdout.write("\n".join(lines) + "\n")
    if failure is not None:
        raise failure
    return 0


COMMAND = Command(
    run,
    usage="version [OPTIONS]",
    summary="Show the version information of client and daemon",
    flags=(("format", "f", STRING, "", INSPECT_FORMAT_HELP),),
    examples="rootless version\nrootless version --format '{{.Server.Version}}'",
)
