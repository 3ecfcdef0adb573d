"""``rootless pki init`` and ``import``: an authority is made, or brought from elsewhere."""

from __future__ import annotations

import argparse
import ipaddress
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from rootless.errors import InvalidInput
from rootless.pki import build, creation, files, keys
from rootless.pki.commands import common
from rootless.pki.creation import Plan
from rootless.pki.identity import check_trust_domain

_INIT = f"""Makes a root, an intermediate that signs day by day, and an empty revocation list. Keys
are ECDSA P-256 and encrypted with a passphrase, which is asked for or taken from
{keys.PASSPHRASE}. The root's key is needed again only when the intermediate is renewed:
--root-key-dir puts it elsewhere at once, such as on a memory stick that then goes into a drawer.

The authority can issue for clients of its trust domain only; --permit-dns and --permit-ip bound
the servers, too. Both bounds stand in its certificate, and every verifier keeps to them.

examples:
  rootless pki init --trust-domain ci.example.org --permit-dns example.org
  rootless pki init --root-key-dir /media/stick/rootless
  rootless pki issue server --install ci.example.org
  rootless pki issue client --role developer alice"""

_IMPORT = """CERTIFICATE holds the authority's certificate and, if that is no root itself, the root
behind it; KEY is its key, ECDSA P-256 or Ed25519, mode 0600. The files are copied. What the
authority issued elsewhere is not known here, and its revocation list begins anew.

example:
  rootless pki import --trust-domain ci.example.org ca-chain.pem ca-key.pem"""


def _network(text: str) -> build.Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; write for example 192.0.2.0/24") from None


def _domain(text: str) -> str:
    name = build.server_name(text)
    if not isinstance(name.value, str) or text.startswith("*"):
        raise InvalidInput(f"invalid --permit-dns: {text!r}", hint="write a domain, example.org")
    return name.value


def own_domain() -> str:
    """A trust domain from the host's name."""
    name = re.sub(r"[^a-z0-9.-]+", "-", socket.gethostname().lower()).strip("-.")
    return name or "localhost"


def main(argv: Sequence[str]) -> int:
    """``init``; ``argv`` is without the command's name."""
    parser = common.parser("init", "[OPTIONS]", "Make a certificate authority.", _INIT)
    add = parser.add_argument
    add("--trust-domain", default=own_domain(), metavar="NAME",
        help="whom clients belong to (default: the host's name)")  # fmt: skip
    add("--name", metavar="TEXT", help="for people (default: the trust domain)")
    add("--key", choices=keys.KINDS, default="p256", help="kind of the keys (default: p256)")
    add("--no-intermediate", action="store_true", help="let the root sign itself")
    add("--root-key-dir", type=Path, metavar="DIR", help="where the root's key goes")
    add("--no-passphrase", action="store_true", help="do not encrypt the keys")
    add("--permit-dns", action="append", default=[], metavar="DOMAIN",
        help="issue only to servers in it (several)")  # fmt: skip
    add("--permit-ip", action="append", default=[], type=_network, metavar="NETWORK",
        help="issue only to servers with such addresses (several)")  # fmt: skip
    common.lifetime(add, "of the root")
    options = parser.parse_args(argv)
    domain = check_trust_domain(options.trust_domain)
    if options.root_key_dir is not None and options.no_intermediate:
        raise InvalidInput(
            "without an intermediate the root's key is needed each time, so not away"
        )
    store = common.store(options)
    names = tuple(_domain(text) for text in options.permit_dns)
    constraints = build.constraints_of(domain, names, options.permit_ip)
    passphrase = b""
    if not options.no_passphrase:
        passphrase = keys.ask("Passphrase for the authority's keys: ", twice=True)
        if not passphrase:
            raise InvalidInput(
                "an empty passphrase protects nothing", hint="say so with --no-passphrase"
            )
    plan = Plan(
        trust_domain=domain,
        constraints=constraints,
        name=options.name or domain,
        kind=options.key,
        intermediate=not options.no_intermediate,
        root_key_at=options.root_key_dir.absolute() if options.root_key_dir else None,
        passphrase=passphrase,
        lifetime=options.lifetime,
    )
    authority = creation.make(store, plan)
    until = authority.root().not_valid_after_utc
    print(f"{store.path}: authority for spiffe://{domain}, until {until:%Y-%m-%d}")
    if plan.root_key_at is not None:
        print(f"the root's key is {plan.root_key_at}/root.key: take it to a safe place")
    elif plan.intermediate:
        print(f"take {store.path}/root.key to a safe place: only a new intermediate needs it")
    if not passphrase:
        print("the keys are not encrypted: whoever reads them can issue", file=sys.stderr)
    return 0


def main_import(argv: Sequence[str]) -> int:
    """``import``."""
    parser = common.parser(
        "import", "[OPTIONS] CERTIFICATE KEY", "Use an authority that was made elsewhere.", _IMPORT
    )
    add = parser.add_argument
    add("--trust-domain", default=own_domain(), metavar="NAME", help="as for init")
    add("certificate", type=Path)
    add("key", type=Path)
    options = parser.parse_args(argv)
    authority = creation.import_existing(
        common.store(options),
        files.read(options.certificate, "certificate"),
        files.read(options.key, "key", private=True),
        check_trust_domain(options.trust_domain),
        options.certificate,
    )
    print(f"{authority.store.path}: {authority.issuer().subject.rfc4514_string()} was imported")
    return 0
