"""An authority at a daemon's hand: it renews clients over the API, and servers by itself.

Whoever holds a certificate in force gets the next one for the same identity. Nobody
gets another identity, a longer life, or one after a revocation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rootless.errors import Conflict, Denied, InvalidInput
from rootless.model.certificate import Renewed
from rootless.pki import build, files, identity, keys
from rootless.pki.authority import Authority
from rootless.pki.profiles import profile
from rootless.pki.renewal import renew_due, renew_list
from rootless.pki.requests import MAX_REQUEST, accepted
from rootless.pki.store import Record, Store, parse_time

MOST = 8
"""Certificates in force that one client may have by renewals."""
_PATIENCE = 10.0
"""Seconds to wait for a command that is changing the directory."""


class OnlineAuthority:
    """The authority in ``directory``, with the passphrase of its key (b'' for none).

    Raises what is wrong with the directory or the key, at once.
    """

    def __init__(self, directory: Path, passphrase: bytes) -> None:
        self._store = Store(directory)
        self._passphrase = passphrase
        authority = self._authority()
        name = "intermediate.key" if authority.chain() else "root.key"
        if not passphrase and (directory / name).exists():
            pem = files.read(directory / name, "authority's key", private=True)
            if keys.is_locked(pem):
                raise InvalidInput(
                    f"pki-dir: the key {directory / name} is locked by a passphrase",
                    hint=f"start rootlessd with the variable {keys.PASSPHRASE}, or make an "
                    "authority with `rootless pki init --no-passphrase`",
                )
        authority.signer()

    def _authority(self) -> Authority:
        """As it is now: a command may have changed it since."""
        return Authority(self._store, self._passphrase)

    @contextmanager
    def _locked(self) -> Iterator[Authority]:
        deadline = time.monotonic() + _PATIENCE
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(self._store.locked())
                    break
                except Conflict:
                    if time.monotonic() > deadline:
                        raise
                time.sleep(0.05)
            yield self._authority()

    def renew(self, fingerprint: str, uri: str, request: str) -> Renewed:
        """The next certificate for the holder of the one with this fingerprint.

        ``request`` (PKCS #10, PEM) is signed with the key that it is for. Denied when
        the certificate is not this authority's, or not in force any more.
        """
        client = identity.parse(uri)
        text = request.encode("utf-8", "replace")
        if len(text) > MAX_REQUEST:
            raise InvalidInput(f"the request has more than {MAX_REQUEST} bytes")
        public = accepted(text, "the request", client)
        with self._locked() as authority:
            now = datetime.now(UTC)
            records = [r for r in self._store.records() if r.kind == "client"]
            found = next((r for r in records if r.fingerprint == fingerprint), None)
            if found is None or found.identity != uri:
                raise Denied(
                    f"the certificate of {uri} was not issued by the authority of this engine",
                    hint="ask whoever issued it: rootless pki renew, or rootless pki sign",
                )
            if not found.is_live(now):
                raise Denied(
                    f"the certificate of {uri} is not in force any more",
                    hint="ask whoever has the authority for another one",
                )
            if sum(r.identity == uri and r.is_live(now) for r in records) >= MOST:
                raise Conflict(
                    f"{uri} has {MOST} certificates in force already",
                    hint="use the last one, and wait until the first ones end",
                )
            issued = authority.issue(
                "client",
                client.name,
                client.role,
                build.client_names(client),
                public,
                lifetime=_term(found),
            )
        made = issued.record
        return Renewed(issued.chain.decode("ascii"), uri, made.serial, made.not_after)

    def renew_due(self) -> list[str]:
        """Renew servers and the revocation list whose end is near; what was renewed."""
        within = profile("server").warn
        with self._locked() as authority:
            told = [
                f"the certificate of {record.identity}, until {record.not_after}"
                for record in renew_due(authority, within)
            ]
            if renew_list(authority, within):
                told.append(f"the revocation list, number {authority.state.crl_number}")
        return told


def _term(record: Record) -> timedelta:
    """As long as the former one, which its issuer chose; never longer than the profile has it."""
    kind = profile("client")
    whole = parse_time(record.not_after) - parse_time(record.not_before) - kind.backdate
    return min(max(whole, build.NEVER_BEFORE), kind.longest)
