"""``rootless pki issue``, ``renew`` and ``export``: certificates with keys that are made here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from rootless.errors import Conflict, InvalidInput, NotFound, RootlessError
from rootless.pki import build, creation, files, keys
from rootless.pki.authority import Authority, check_output, safe_name
from rootless.pki.commands import common
from rootless.pki.identity import check_name
from rootless.pki.profiles import profile
from rootless.pki.renewal import Wish, again, make, renew_due, renew_list
from rootless.pki.store import Record

_ISSUE = """issue server NAME…   for the daemon; each NAME is a DNS name or an address clients use
issue client NAME    for a person or machine: spiffe://TRUST-DOMAIN/role/ROLE/NAME

Certificate and key are ca.pem, cert.pem and key.pem in a directory of their own (--out), as
docker --tlsverify and contexts want them; --install is the daemon's own directory, which then
gets each new revocation list, too. Clients' certificates are for 24 hours, servers' for 30 days.

examples:
  rootless pki issue server --install ci.example.org 192.0.2.7
  rootless pki issue client --role ci --out ./runner-1 runner-1
  DOCKER_CERT_PATH=./runner-1 docker --tlsverify -H tcp://ci.example.org:2376 info"""

_RENEW = """Makes a new key and certificate where the former ones are; a running daemon takes it
without a restart. --due renews every server whose last certificate ends within ten days, and the
revocation list when it does; clients are renewed by name. For a timer:

  rootless pki renew --due

--remote is for a client on another machine: the daemon that it speaks to (--host, --context or
DOCKER_HOST, with its certificate) issues the next certificate for the same identity and key, while
the present one is in force, if the daemon has the authority (rootlessd --pki-dir) and its policy
grants certificate.renew. cert.pem is replaced whole. For the client's timer:

  rootless --context ci pki renew --remote --within 12h

--authority gives the intermediate another term; it needs the root's key (--root-key FILE)."""

_EXPORT = """Writes ca.pem, cert.pem and key.pem of a certificate whose key was made here into DIR,
as docker contexts want them; --pkcs12 writes one file for browsers instead, encrypted with the
passphrase that is asked for.

examples:
  rootless pki export alice ./alice
  docker context create ci --docker "host=tcp://ci.example.org:2376,ca=alice/ca.pem,\\
cert=alice/cert.pem,key=alice/key.pem"
  rootless pki export --pkcs12 alice.p12 alice"""


def main(argv: Sequence[str]) -> int:
    """``issue``."""
    parser = common.parser(
        "issue", "server|client [OPTIONS] NAME...", "Issue a certificate with a new key.", _ISSUE
    )
    add = parser.add_argument
    add("kind", choices=("server", "client"))
    add("names", nargs="+", metavar="NAME")
    add("--role", metavar="ROLE", help="of a client: what its policy grants")
    add(
        "--out", type=Path, metavar="DIR", help="where the files go (default: beside the authority)"
    )
    add("--install", action="store_true", help="of a server: the files go to this user's daemon")
    common.lifetime(add, "of the certificate")
    options = parser.parse_args(argv)
    _check(options)
    authority = Authority(common.store(options))
    with authority.locked():
        record = _issue(authority, options)
    common.note_role(record.role)
    print(common.told(record))
    print(f"{record.directory}: ca.pem, cert.pem, key.pem")
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.kind == "client":
        if options.role is None:
            raise InvalidInput(
                "a client needs a role", hint="give --role, such as developer, ci or viewer"
            )
        if len(options.names) > 1:
            raise InvalidInput("a client has one name")
        if options.install:
            raise InvalidInput("--install is for servers", hint="give --out DIR")
    elif options.role is not None:
        raise InvalidInput("--role is for clients")
    if options.install and options.out is not None:
        raise InvalidInput("--install and --out are two places for the same files")


def _issue(authority: Authority, options: argparse.Namespace) -> Record:
    name = options.names[0]
    names: list[x509.GeneralName]
    if options.kind == "client":
        names = build.client_names(authority.client(options.role, check_name(name)))
    else:
        names = [build.server_name(text) for text in options.names]
    if options.install:
        place = authority.store.path.parent / "tls"
    else:
        place = options.out or authority.store.path / f"{options.kind}s" / safe_name(name)
    directory = check_output(place)
    _check_place(authority, options.kind, name, directory)
    wish = Wish(options.kind, name, options.role or "", names, directory)
    record = make(authority, wish, options.lifetime)
    if options.install:
        authority.install(Path(directory))
    return record


def _check_place(authority: Authority, kind: str, name: str, directory: str) -> None:
    """Never write over what somebody else's certificate needs."""
    if not (Path(directory) / "key.pem").exists():
        return
    for record in authority.store.records():
        if record.directory == directory and (record.kind, record.name) == (kind, name):
            return
    raise Conflict(
        f"{directory} has the key of another certificate", hint="move it away, or give --out DIR"
    )


def renew_options(argv: Sequence[str]) -> argparse.Namespace:
    """The options of ``renew``; InvalidInput for those that contradict each other."""
    parser = common.parser(
        "renew", "[OPTIONS] NAME... | --due | --remote | --authority", "Renew certificates.", _RENEW
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME")
    add("--due", action="store_true", help="all servers' whose end is near, and the list")
    add("--remote", action="store_true", help="this client's own, by the daemon it speaks to")
    add(
        "--within", type=common.duration, metavar="TIME",
        help="only what ends so soon (with --due: 10d; with --remote: whenever it ends)",
    )  # fmt: skip
    add("--authority", action="store_true", help="the intermediate")
    add("--root-key", type=Path, metavar="FILE", help="where the root's key is")
    common.lifetime(add, "of the new certificates")
    options = parser.parse_args(argv)
    chosen = [bool(options.names), options.due, options.remote, options.authority]
    if sum(chosen) != 1:
        raise InvalidInput("say what to renew: names, --due, --remote or --authority")
    if options.within is not None and not (options.due or options.remote):
        raise InvalidInput("--within goes with --due or --remote")
    if options.root_key is not None and not options.authority:
        raise InvalidInput("--root-key goes with --authority")
    if options.lifetime is not None and (options.remote or options.due or options.authority):
        raise InvalidInput(
            "--lifetime goes with names",
            hint="what is renewed otherwise gets the term that it had, or its profile's",
        )
    return options


def main_renew(argv: Sequence[str]) -> int:
    """``renew``, but for ``--remote``, which is the command line's."""
    options = renew_options(argv)
    store = common.store(options)
    if options.authority:
        made = creation.renew_intermediate(store, options.root_key or store.path / "root.key")
        print(f"intermediate until {made.not_valid_after_utc:%Y-%m-%d}; renew the servers now")
        return 0
    authority = Authority(store)
    with authority.locked():
        if options.due:
            for record in renew_due(authority, options.within or profile("server").warn):
                print(common.told(record))
            if renew_list(authority, options.within or profile("server").warn):
                print(f"revocation list {authority.state.crl_number}")
            return 0
        for name in options.names:
            for record in _renewable(authority, name):
                print(common.told(again(authority, record, options.lifetime)))
    return 0


def _renewable(authority: Authority, name: str) -> list[Record]:
    """The last certificate of each kind that a name has; NotFound, InvalidInput."""
    last = {record.kind: record for record in authority.find(name)}
    found = [record for record in last.values() if record.directory and not record.revoked]
    if not found:
        raise InvalidInput(
            f"the key of {name} was not made here, or its certificate was revoked",
            hint="its holder asks for another: rootless pki csr, then rootless pki sign here",
        )
    return found


def main_export(argv: Sequence[str]) -> int:
    """``export``."""
    parser = common.parser(
        "export", "[OPTIONS] NAME DIR", "Copy a certificate and its key for its holder.", _EXPORT
    )
    add = parser.add_argument
    add("name", metavar="NAME")
    add("place", nargs="?", type=Path, metavar="DIR")
    add("--pkcs12", type=Path, metavar="FILE", help="write one encrypted file")
    options = parser.parse_args(argv)
    if (options.place is None) == (options.pkcs12 is None):
        raise InvalidInput("say where to: DIR, or --pkcs12 FILE")
    authority = Authority(common.store(options))
    record = [one for one in authority.find(options.name) if one.directory][-1:]
    if not record:
        raise NotFound(f"the key of {options.name} was not made here: only its holder has it")
    source = Path(record[0].directory)
    found = {name: files.read(source / name, name) for name in ("ca.pem", "cert.pem")}
    key = files.read(source / "key.pem", "key", private=True)
    if options.pkcs12 is not None:
        _write_pkcs12(options.pkcs12, options.name, found["cert.pem"], key)
        return 0
    files.write_directory(
        options.place,
        {
            "ca.pem": (found["ca.pem"], 0o644),
            "key.pem": (key, 0o600),
            "cert.pem": (found["cert.pem"], 0o644),
        },
    )
    print(f"{options.place}: {common.told(record[0])}")
    return 0


def _write_pkcs12(path: Path, name: str, chain: bytes, key: bytes) -> None:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

    own, *above = x509.load_pem_x509_certificates(chain)
    passphrase = keys.ask(f"Passphrase for {path}: ", twice=True)
    if not passphrase:
        raise InvalidInput("a PKCS #12 file needs a passphrase")
    data = pkcs12.serialize_key_and_certificates(
        name.encode(), keys.from_pem(key, path), own, above, BestAvailableEncryption(passphrase)
    )
    if path.exists():
        raise Conflict(f"{path} exists already", hint="name another file")
    if not path.absolute().parent.is_dir():
        raise RootlessError(f"no such directory: {path.absolute().parent}")
    files.replace(path, data, 0o600)
    print(path, file=sys.stderr)
