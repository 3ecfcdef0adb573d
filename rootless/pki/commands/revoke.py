"""``rootless pki revoke`` and ``crl``: what was issued is taken back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from rootless.errors import NotFound
from rootless.pki import files, revocation
from rootless.pki.authority import Authority, one_certificate
from rootless.pki.commands import common
from rootless.pki.store import Record

_REVOKE = """WHAT is a name (all its certificates), a serial number, or a certificate's file. The
new revocation list goes to the daemons of this machine that --install gave a certificate, and they
end the open connections of the holder at once; `rootless pki crl --out` is for others.

examples:
  rootless pki revoke alice
  rootless pki revoke --reason key-compromise 5f3a…
  rootless pki revoke ./laptop/cert.pem"""

_CRL = """Makes a new list of all that was revoked; revoke does that, too. A list is for 30 days,
and a daemon lets nobody in with one that has ended: `rootless pki renew --due` makes one in time.

example:
  rootless pki crl --out /srv/ci/tls/crl.pem"""


def main(argv: Sequence[str]) -> int:
    """``revoke``."""
    parser = common.parser(
        "revoke", "[OPTIONS] WHAT...", "Take certificates back, at once.", _REVOKE
    )
    add = parser.add_argument
    add("what", nargs="+", metavar="WHAT")
    add("--reason", choices=tuple(revocation.REASONS), default="unspecified", metavar="REASON",
        help=", ".join(revocation.REASONS))  # fmt: skip
    options = parser.parse_args(argv)
    authority = Authority(common.store(options))
    with authority.locked():
        found: dict[str, Record] = {}
        for word in options.what:
            found |= {one.serial: one for one in _find(authority, word)}
        for record in authority.revoke(found.values(), options.reason):
            print(f"revoked: {common.told(record)}")
    return 0


def _find(authority: Authority, word: str) -> list[Record]:
    if "/" not in word and not word.endswith(".pem"):
        return authority.find(word)
    path = Path(word)
    certificate = one_certificate(files.read(path, "certificate"), path)
    return authority.find(f"{certificate.serial_number:x}")


def main_crl(argv: Sequence[str]) -> int:
    """``crl``."""
    parser = common.parser("crl", "[OPTIONS]", "Make a new revocation list.", _CRL)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there, too")
    common.lifetime(parser.add_argument, "until a newer one must be there (default 30d)")
    options = parser.parse_args(argv)
    authority = Authority(common.store(options))
    lifetime: timedelta = options.lifetime or revocation.LIFETIME
    with authority.locked():
        text = authority.publish(lifetime)
    if options.out is not None:
        if not options.out.absolute().parent.is_dir():
            raise NotFound(f"no such directory: {options.out.absolute().parent}")
        files.replace(options.out, text, 0o644)
    made = x509.load_pem_x509_crl(text)
    print(
        f"revocation list {authority.state.crl_number}: {len(made)} certificates, "
        f"until {made.next_update_utc:%Y-%m-%d %H:%M} UTC"
    )
    return 0
