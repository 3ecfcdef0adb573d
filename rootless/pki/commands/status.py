"""``rootless pki status`` and ``verify``: what exists, what ends when, and whether it is good."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from rootless.errors import InvalidInput
from rootless.pki import build, checking, files, revocation
from rootless.pki.authority import Authority
from rootless.pki.checking import Trust
from rootless.pki.commands import common
from rootless.pki.profiles import Kind, profile
from rootless.pki.store import CRL, Record, Store, format_time

_STATUS = """Shows the authority, its revocation list and what it issued: the last certificate of
each name, with --all every one. STATE is valid, ends soon, expired or revoked. What needs doing is
told on standard error; with --check the exit status is 1 then.

examples:
  rootless pki status
  rootless pki status --format json | jq '.certificates[] | select(.state != "valid")'"""

_VERIFY = """Holds a certificate against the authority: signatures, dates, purpose, names, identity,
revocation. All that is wrong is told, a line each; the exit status is 1 then. --ca and --crl
name other files than this machine's authority's.

examples:
  rootless pki verify ./alice/cert.pem
  rootless pki verify --purpose server --host ci.example.org ~/.config/rootless/tls/cert.pem
  rootless pki verify --ca ca.pem --crl crl.pem cert.pem"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of ``status``; ``ends`` is UTC."""

    kind: str
    name: str
    identity: str
    serial: str
    ends: str
    state: str


def main(argv: Sequence[str]) -> int:
    """``status``."""
    parser = common.parser(
        "status", "[OPTIONS]", "Show what was issued and what ends when.", _STATUS
    )
    add = parser.add_argument
    add("--all", action="store_true", help="all certificates, those that ended included")
    add("--format", choices=("table", "json"), default="table")
    add("--check", action="store_true", help="exit with 1 when something needs doing")
    options = parser.parse_args(argv)
    authority = Authority(common.store(options))
    now = datetime.now(UTC)
    rows = list(_rows(authority, now, everything=options.all))
    if options.format == "json":
        told = {
            "trustDomain": authority.state.trust_domain,
            "directory": str(authority.store.path),
            "certificates": [asdict(row) for row in rows],
        }
        print(json.dumps(told, indent=2))
    else:
        _print(rows)
    needed = [_advice(row) for row in rows if row.state not in ("valid", "revoked")]
    needed = [text for text in needed if text]
    for text in needed:
        print(text, file=sys.stderr)
    return 1 if needed and options.check else 0


def _rows(authority: Authority, now: datetime, *, everything: bool) -> Iterator[Row]:
    own: list[tuple[Kind, x509.Certificate]] = [("root", authority.root())]
    if authority.chain():
        own.append(("intermediate", authority.issuer()))
    for kind, one in own:
        yield Row(
            kind,
            one.subject.rfc4514_string().removeprefix("CN="),
            "",
            f"{one.serial_number:x}",
            format_time(one.not_valid_after_utc),
            _state(one.not_valid_after_utc, profile(kind).warn, now),
        )
    current = revocation.read(authority.crl(), authority.store.path / CRL)[0]
    ends = current.next_update_utc or now
    number = str(authority.state.crl_number)
    yield Row("crl", f"{len(current)} revoked", "", number, format_time(ends),
              _state(ends, timedelta(days=7), now))  # fmt: skip
    for record in _shown(authority.store.records(), everything=everything):
        warn = profile("client" if record.kind == "client" else "server").warn
        state = "revoked" if record.revoked else _state(record.ends, warn, now)
        yield Row(record.kind, record.name, record.identity, record.serial, record.not_after, state)


def _shown(records: Sequence[Record], *, everything: bool) -> list[Record]:
    """The last one of each name and place."""
    if everything:
        return list(records)
    return list({(one.kind, one.name, one.directory): one for one in records}.values())


def _state(ends: datetime, warn: timedelta, now: datetime) -> str:
    if now >= ends:
        return "expired"
    return "ends soon" if ends - now < warn else "valid"


def _advice(row: Row) -> str:
    """What to do about a row; '' for a client, which renews itself or is gone."""
    command = {
        "root": "make another authority with `rootless pki init --dir` in time",
        "intermediate": "rootless pki renew --authority",
        "crl": "rootless pki crl",
        "server": f"rootless pki renew {row.name}",
    }.get(row.kind)
    if command is None:
        return ""
    what = "the revocation list" if row.kind == "crl" else f"{row.kind} {row.name}"
    word = "ended" if row.state == "expired" else "ends"
    return f"{what} {word} on {row.ends} (hint: {command})"


def _print(rows: Sequence[Row]) -> None:
    table = [("KIND", "NAME", "IDENTITY", "SERIAL", "ENDS", "STATE")]
    table += [(r.kind, r.name, r.identity, r.serial[:16], r.ends, r.state) for r in rows]
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    for row in table:
        print(
            "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def main_verify(argv: Sequence[str]) -> int:
    """``verify``."""
    parser = common.parser("verify", "[OPTIONS] CERTIFICATE...", "Check certificates.", _VERIFY)
    add = parser.add_argument
    add("certificates", nargs="+", type=Path, metavar="CERTIFICATE")
    add("--purpose", choices=("client", "server"), help="default: what the certificate is for")
    add("--host", default="", metavar="NAME", help="a server's name that a client uses")
    add("--ca", type=Path, metavar="FILE", help="the trusted authorities")
    add("--crl", type=Path, metavar="FILE", help="their revocation lists")
    options = parser.parse_args(argv)
    trust = _trust(common.store(options).path, options.ca, options.crl)
    if not trust.lists:
        print("revocation is not looked at: name the list with --crl", file=sys.stderr)
    good = True
    for path in options.certificates:
        chain = _certificates(path)
        purpose = options.purpose or _purpose(chain[0])
        found = checking.problems(chain, trust, purpose, datetime.now(UTC), options.host)
        good = good and not found
        if not found:
            print(f"{path}: good for a {purpose}")
        for text in found:
            print(f"{path}: {text}")
    return 0 if good else 1


def _trust(directory: Path, authorities: Path | None, crl: Path | None) -> Trust:
    if authorities is not None:
        roots = tuple(_certificates(authorities))
        lists = revocation.read(files.read(crl, "revocation list"), crl) if crl else []
        return Trust(roots, tuple(lists))
    authority = Authority(Store(directory))
    path = crl or directory / CRL
    lists = revocation.read(files.read(path, "revocation list"), path)
    return Trust((authority.root(),), tuple(lists), authority.state.trust_domain)


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(files.read(path, "certificate"))
    except ValueError:
        raise InvalidInput(f"{path} holds no certificate") from None


def _purpose(certificate: x509.Certificate) -> checking.Purpose:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return "client"
    return "server" if build.PURPOSES["serverAuth"] in uses else "client"
