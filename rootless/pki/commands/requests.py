"""``rootless pki csr`` and ``sign``: a holder keeps its key, the authority sees only a request."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rootless.errors import NotFound
from rootless.pki import build, files, keys
from rootless.pki.authority import Authority, check_output
from rootless.pki.commands import common
from rootless.pki.identity import client_id
from rootless.pki.requests import MAX_REQUEST, accepted

_CSR = """Makes key.pem and request.pem in DIR. The request goes to whoever has the authority, who
runs `rootless pki sign`; the answer becomes cert.pem beside the key. No authority is needed here.

example:
  rootless pki csr --trust-domain ci.example.org --role developer --out ./alice alice"""

_SIGN = """The request says who its holder wants to be; you decide: it is refused unless --name and
--role say the same. Anything else in a request is ignored.

examples:
  rootless pki sign --name alice --role developer --out cert.pem request.pem
  rootless pki sign --name alice --role developer --ca-out ca.pem request.pem >cert.pem"""


def main(argv: Sequence[str]) -> int:
    """``csr``."""
    parser = common.parser("csr", "[OPTIONS] NAME", "Make a key and a request for it.", _CSR)
    add = parser.add_argument
    add("name", metavar="NAME")
    add("--trust-domain", required=True, metavar="NAME", help="the authority's")
    add("--role", required=True, metavar="ROLE", help="what you ask for")
    add("--key", choices=keys.KINDS, default="p256", help="kind of the key (default: p256)")
    add("--out", type=Path, required=True, metavar="DIR", help="where the files go")
    options = parser.parse_args(argv)
    client = client_id(options.trust_domain, options.role, options.name)
    place = Path(check_output(options.out))
    path = place / "key.pem"
    # Asked again, it is the same key for another term.
    key = keys.load(path, "key") if path.exists() else keys.generate(options.key)
    request = build.request(key, client.name, build.client_names(client))
    content = {"key.pem": (keys.to_pem(key), 0o600)} if not path.exists() else {}
    files.write_directory(place, {**content, "request.pem": (request, 0o644)})
    print(f"{place}/request.pem asks for {client.uri}")
    return 0


def main_sign(argv: Sequence[str]) -> int:
    """``sign``."""
    parser = common.parser(
        "sign", "--name NAME --role ROLE [OPTIONS] REQUEST", "Sign a client's request.", _SIGN
    )
    add = parser.add_argument
    add("request", metavar="REQUEST", help="a file, or - for standard input")
    add("--name", required=True, help="who the holder is")
    add("--role", required=True, help="its role")
    add("--out", type=Path, metavar="FILE", help="the certificate (default: standard output)")
    add("--ca-out", type=Path, metavar="FILE", help="the authority's certificate, for the holder")
    common.lifetime(add, "of the certificate")
    options = parser.parse_args(argv)
    for path in (options.out, options.ca_out):
        if path is not None and not path.absolute().parent.is_dir():
            raise NotFound(f"no such directory: {path.absolute().parent}")
    authority = Authority(common.store(options))
    client = authority.client(options.role, options.name)
    if options.request == "-":
        text = sys.stdin.buffer.read(MAX_REQUEST + 1)
    else:
        text = files.read(Path(options.request), "request", limit=MAX_REQUEST)
    public = accepted(text, options.request, client)
    with authority.locked():
        issued = authority.issue(
            "client", client.name, client.role, build.client_names(client), public,
            lifetime=options.lifetime,
        )  # fmt: skip
    if options.ca_out is not None:
        files.replace(options.ca_out, build.pem(authority.root()), 0o644)
    if options.out is not None:
        files.replace(options.out, issued.chain, 0o644)
    else:
        sys.stdout.buffer.write(issued.chain)
        sys.stdout.buffer.flush()
    print(common.told(issued.record), file=sys.stderr)
    common.note_role(client.role)
    return 0
