"""What generated requests find in the engine, and how they are led to it.

Schemathesis makes requests from Docker's description alone: nearly all of them name
things that do not exist. Here some of their values are replaced by those of real
containers, execs, images and volumes, so that the code behind the look-up runs too.
What would reach another machine is turned to a port of this one where nobody listens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.support import tarmaker
from tests.support.api import IMAGE, Api

NOBODY = "127.0.0.1:1"
"""A registry that refuses every connection."""
ARCHIVE = tarmaker.archive(tarmaker.directory(b"tmp/"), tarmaker.file(b"tmp/f", b"x" * 1000))
_COMMAND = ("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 1; done")
PLAUSIBLE: dict[str, tuple[str, ...]] = {
    "path": ("/", "/tmp", "/etc/passwd", "/proc/self/root", "/nowhere", "tmp/../etc/", "/bin/sh"),
    "signal": ("TERM", "SIGKILL", "0", "9", "15", "64", "SIGRTMIN+3", "WINCH"),
    "condition": ("not-running", "next-exit", "removed"),
    "filters": (
        "{}", "null", '{"label":["a=b"]}', '{"label":{"a":true}}', '{"status":["running"]}',
        '{"until":["1h"]}', '{"dangling":["true"]}', '{"name":["a",""]}', '{"id":["0"]}',
        '{"reference":["*"]}', '{"type":["container"]}', '{"label!":["x"]}', '{"all":["1"]}',
    ),
    "ps_args": ("-ef", "aux", "-o pid,args", "--nothing"),
    "repo": ("spare", f"{NOBODY}/made", "a/b"),
    "tag": ("1", "latest", "v.1_2-3"),
    "names": (f"{NOBODY}/spare:1", "nothing"),
    "changes": ("ENV A=b", "CMD true", 'LABEL x="y z"', "EXPOSE 80/udp", "NOTHING"),
    "since": ("1", "2024-01-31T10:00:00Z", "1.5", "10m"),
    "tail": ("all", "0", "1", "-1"),
    "h": ("0", "24", "65535", "65536"),
    "w": ("0", "80", "65535"),
    "type": ("container", "image", "volume", "build-cache"),
    "platform": ('{"os":"linux","architecture":"amd64"}', "linux/amd64", "linux/arm64/v8"),
    "limit": ("0", "1", "-1", "9223372036854775807"),
    "name": ("fresh", "keeper", "/fresh2"),
}  # fmt: skip
"""Values that have an effect, by the names of parameters."""
VERSIONS = ("", "", "/v1.51", "/v1.44", "/v1.41", "/v1.30", "/v1.24")
FLAGS = ("1", "0", "true", "False", "none", "")
_ELSEWHERE = frozenset(
    ("POST /images/create", "POST /images/{name}/push", "GET /distribution/{name}/json")
)


@dataclass
class Request:
    """One request before it is sent."""

    label: str
    path: dict[str, Any]
    query: dict[str, Any]
    headers: dict[str, str]
    body: Any
    version: str = ""
    """How the path begins: ``/v1.41``, or nothing."""


class World:
    """Containers and the rest, made again when a request has removed them."""

    def __init__(self, api: Api) -> None:
        self.api = api
        # Keeps the image from being pruned; no request is led to it.
        self.keeper = api.create("true", name="keeper")
        self.containers: list[str] = []
        self.execs: list[str] = []

    def refill(self) -> None:
        """One container that runs, one that was made, one that ended; an exec, a volume, a tag."""
        api = self.api
        self.api.remove(*(ref for ref in self._existing() if ref != self.keeper))
        running = api.run(*_COMMAND, Labels={"a": "b"}, ExposedPorts={"80/tcp": {}})
        made = api.create("true", Tty=True, OpenStdin=True)
        ended = api.run("true")
        api.ok("POST", f"/containers/{ended}/wait")
        self.containers = [running, running[:12], made, ended]
        body = {"Cmd": ["cat"], "AttachStdout": True, "AttachStdin": True}
        self.execs = [api.ok("POST", f"/containers/{running}/exec", body)["Id"] for _ in range(3)]
        api.ok("POST", "/volumes/create", {"Name": "vol"})
        if not api.ok("GET", "/networks", filters='{"name":["^net$"]}'):
            api.ok("POST", "/networks/create", {"Name": "net"})
        api.ok("POST", f"/images/{IMAGE}/tag", repo=f"{NOBODY}/spare", tag="1")

    def _existing(self) -> list[str]:
        return [found["Id"] for found in self.api.ok("GET", "/containers/json", all=1)]

    def clear(self) -> None:
        """Remove all that requests have made."""
        self.api.remove(*self._existing())
        for network in self.api.ok("GET", "/networks", filters='{"type":["custom"]}'):
            self.api.ok("DELETE", f"/networks/{network['Id']}")
        for volume in self.api.ok("GET", "/volumes")["Volumes"]:
            self.api.ok("DELETE", f"/volumes/{volume['Name']}", force=1)
        for image in self.api.ok("GET", "/images/json", all=1):
            names = [name for name in image["RepoTags"] if not name.startswith(IMAGE)]
            for name in names or ([] if image["RepoTags"] else [image["Id"]]):
                self.api.ok("DELETE", f"/images/{name}", force=1)

    def lead(self, request: Request, draw: st.DrawFn) -> None:
        """Replace some of a request's values by such as exist."""
        label = request.label
        request.version = draw(st.sampled_from(VERSIONS))
        if draw(st.integers(0, 9)) < 8:
            self._name(request, draw)
        if label == "POST /images/create" and draw(st.booleans()):
            request.query = {"fromSrc": "-", **request.query}
            request.query.pop("fromImage", None)
            request.body = draw(st.sampled_from((ARCHIVE, b"", ARCHIVE[:700])))
        if label == "POST /containers/create":
            self._creation(request, draw)
        elif label in ("POST /networks/{id}/connect", "POST /networks/{id}/disconnect"):
            if isinstance(request.body, dict) and draw(st.booleans()):
                request.body["Container"] = draw(st.sampled_from(self.containers))
        elif label == "POST /containers/{id}/exec" and draw(st.booleans()):
            request.body = {**_only_some(request.body, draw), "Cmd": ["true"]}
        elif isinstance(request.body, bytes) and draw(st.booleans()):
            request.body = ARCHIVE
        elif label == "POST /commit" and draw(st.booleans()):
            request.query["container"] = draw(st.sampled_from(self.containers))
        for name in sorted(request.query):
            choices = PLAUSIBLE.get(name, FLAGS)
            if draw(st.booleans()) and not name.startswith("from"):
                request.query[name] = draw(st.sampled_from(choices))
        for name in ("t", "until"):
            # It may wait as long as it was told to; here that is not for long.
            if name in request.query:
                request.query[name] = "1"
        self._stay_here(request)

    def _name(self, request: Request, draw: st.DrawFn) -> None:
        label = request.label
        known = {
            "containers": self.containers, "exec": self.execs, "volumes": ["vol"],
            "networks": ["net", "net", "bridge", "none", "slirp4netns", "host"],
            "images": [f"{NOBODY}/spare:1"],
        }  # fmt: skip
        choices = known.get(label.split("/")[1], [])
        for field in request.path if choices else ():
            request.path[field] = draw(st.sampled_from(choices))

    def _creation(self, request: Request, draw: st.DrawFn) -> None:
        """A body that could work, with one or two fields as they were generated."""
        body = request.body if isinstance(request.body, dict) else {}
        host = body.get("HostConfig")
        wanted = _only_some({k: v for k, v in body.items() if k != "HostConfig"}, draw)
        if isinstance(host, dict):
            wanted["HostConfig"] = {"NetworkMode": "none", **_only_some(host, draw)}
        request.body = {"Image": IMAGE, "Cmd": ["true"], **wanted}
        if draw(st.booleans()):
            request.query.clear()

    @staticmethod
    def _stay_here(request: Request) -> None:
        query = request.query
        if request.label in _ELSEWHERE and "name" in request.path:
            request.path["name"] = f"{NOBODY}/{request.path['name']}"[:200]
        if "fromImage" in query:
            query["fromImage"] = f"{NOBODY}/{query['fromImage']}"
        if request.label == "GET /images/search":
            query["term"] = f"{NOBODY}/{query.get('term')}"
        if request.label == "POST /auth" and isinstance(request.body, dict):
            request.body["serveraddress"] = NOBODY
        # A registry's name in it counts for more than the one in the path.
        request.headers.pop("X-Registry-Auth", None)


def _only_some(body: Any, draw: st.DrawFn) -> dict[str, Any]:
    if not isinstance(body, dict) or not body:
        return {}
    keys = draw(st.lists(st.sampled_from(sorted(body)), max_size=2, unique=True))
    return {key: body[key] for key in keys}
