"""``rootless auth whoami`` and ``can-i``."""

from __future__ import annotations

import sys

from rootless.cli.command import INSPECT_FORMAT_HELP, STRING, Command, Invocation
from rootless.cli.formats import print_one
from rootless.client.http import quote

_DENIED = 1


def _whoami(call: Invocation) -> int:
    """Print who the daemon takes us for."""
    found = call.client.get("/rootless/identity")
    if call["format"]:
        print_one(call["format"], found)
        return 0
    sys.stdout.write(f"{found['Key']}\n")
    lines = (
        ("name", found["Name"]),
        ("role", found["Role"] or "none"),
        ("known by", "a certificate" if found["Source"] == "certificate" else "the socket"),
        ("certificate", found["Fingerprint"]),
        ("rights", "the engine's own user" if found["Own"] else "what the policy grants"),
    )
    for name, value in lines:
        if value:
            sys.stdout.write(f"  {name}: {value}\n")
    sys.stdout.flush()
    return 0


def _can_i(call: Invocation) -> int:
    """Print what the policy would say; the status is 1 when it denies."""
    verb, *rest = call.args
    query = f"verb={quote(verb)}&object={quote(rest[0] if rest else '')}&as={quote(call['as'])}"
    found = call.client.get(f"/rootless/can?{query}")
    if call["format"]:
        print_one(call["format"], found)
    else:
        sys.stdout.write("yes\n" if found["Allowed"] else "no\n")
        sys.stdout.flush()
        for one in found["Findings"]:
            sys.stderr.write(f"{one['Rule']}: {one['Reason']} (fix: {one['Fix']})\n")
    return 0 if found["Allowed"] else _DENIED


WHOAMI = Command(
    _whoami,
    usage="auth whoami [OPTIONS]",
    summary="Print who the daemon takes you for",
    flags=(("format", "f", STRING, "", INSPECT_FORMAT_HELP),),
    description="""The first line is what policies call you: uid:N for a user of the socket, the
SPIFFE ID of the certificate for a remote one, or certificate:NAME where it has none.""",
    examples="""rootless auth whoami
rootless auth whoami --format '{{.Role}}'""",
)
CAN_I = Command(
    _can_i,
    usage="auth can-i [OPTIONS] VERB [OBJECT]",
    summary="Ask whether the policy lets you do something",
    flags=(
        (
            "as",
            "",
            STRING,
            "",
            "Ask for another identity (the engine's own user, and the role admin)",
        ),
        ("format", "f", STRING, "", INSPECT_FORMAT_HELP),
    ),
    min_args=1,
    max_args=2,
    description="""VERB is one of docs/api.md, such as container.exec or image.pull. OBJECT is a
container, volume, network or image that exists, or the name of an image to pull; without one
the answer is about what you would make. What a request says besides (capabilities, mounts,
ports) is judged when it is made: see rootless run --dry-run.""",
    examples="""rootless auth can-i container.exec web
rootless auth can-i image.pull docker.io/library/debian
rootless auth can-i --as spiffe://ci.example.org/role/ci/runner-1 container.create""",
    exit_codes="""0      yes
1      no, and the findings are on standard error""",
)
