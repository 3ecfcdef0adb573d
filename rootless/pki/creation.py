"""How an authority comes to be: made new, brought from elsewhere, its intermediate renewed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from rootless.errors import Conflict, InvalidInput, RootlessError
from rootless.linux import sync
from rootless.pki import build, files, keys, revocation
from rootless.pki.authority import Authority
from rootless.pki.build import Pair, PublicKey
from rootless.pki.checking import is_signed_by
from rootless.pki.profiles import profile
from rootless.pki.store import CRL, INTERMEDIATE, ROOT, State, Store


@dataclass(frozen=True, slots=True)
class Plan:
    """How a new authority is to be."""

    trust_domain: str
    constraints: x509.NameConstraints
    name: str
    kind: keys.KeyKind
    intermediate: bool
    root_key_at: Path | None
    """Another directory for the root's key, such as a memory stick's."""
    passphrase: bytes
    lifetime: timedelta | None = None


def make(store: Store, plan: Plan) -> Authority:
    """A new authority. It appears whole, under its name, or not at all."""
    with _appearing(store) as new:
        root_key = keys.generate(plan.kind)
        root = build.certificate(
            None,
            root_key,
            root_key.public_key(),
            profile("root"),
            f"{plan.name} root",
            constraints=plan.constraints,
            path_length=1 if plan.intermediate else 0,
            lifetime=plan.lifetime,
        )
        files.replace(new.path / f"{ROOT}.pem", build.pem(root), 0o644)
        signer = Pair(root, root_key)
        if plan.intermediate:
            key = keys.generate(plan.kind)
            signer = Pair(_intermediate(signer, key.public_key(), f"{plan.name} intermediate"), key)
            files.replace(
                new.path / f"{INTERMEDIATE}.key", keys.to_pem(key, plan.passphrase), 0o600
            )
            files.replace(new.path / f"{INTERMEDIATE}.pem", build.pem(signer.certificate), 0o644)
        files.replace(new.path / CRL, revocation.make(signer, 1, ()), 0o644)
        new.save(State(plan.trust_domain, plan.kind, crl_number=1))
        place = new.path
        if plan.root_key_at is not None:
            place = plan.root_key_at
            files.private_directory(place, "directory for the root's key")
        _write_key(place / f"{ROOT}.key", keys.to_pem(root_key, plan.passphrase))
    return Authority(store)


def _intermediate(root: Pair, public: PublicKey, name: str) -> x509.Certificate:
    """An intermediate with the root's constraints."""
    found = root.certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    return build.certificate(
        root, None, public, profile("intermediate"), name, constraints=found, path_length=0
    )


def renew_intermediate(store: Store, root_key: Path) -> x509.Certificate:
    """The intermediate's key for another term; what it signed stays valid."""
    authority = Authority(store)
    if not authority.chain():
        raise InvalidInput(
            "this authority has no intermediate, and a root is not renewed",
            hint="make another with `rootless pki init --dir`; daemons can trust both for a time",
        )
    root = Pair(authority.root(), keys.load(root_key, "root's key"))
    if root.key.public_key() != root.certificate.public_key():
        raise InvalidInput(f"{root_key} is not the key of {store.path / f'{ROOT}.pem'}")
    old = authority.issuer()
    name = str(old.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    made = _intermediate(root, build.check_public_key(old.public_key(), "the intermediate"), name)
    files.replace(store.path / f"{INTERMEDIATE}.pem", build.pem(made), 0o644)
    return made


@contextmanager
def _appearing(store: Store) -> Iterator[Store]:
    """A store beside ``store``'s place that takes it at the end; Conflict when one is there."""
    path = store.path
    if path.exists() and any(path.iterdir()):
        raise Conflict(
            f"{path} has a certificate authority already, or other files",
            hint="name another with --dir; without its files no certificate can be taken back",
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise RootlessError(f"cannot make {path}: {error.strerror}") from error
    try:
        yield Store(place)
        os.rename(place, path)
        sync.fsync_dir(path.parent)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _write_key(path: Path, pem: bytes) -> None:
    if path.exists():
        raise Conflict(f"{path} exists already, and keys are not overwritten", hint="move it away")
    files.replace(path, pem, 0o600)


def import_existing(
    store: Store, certificates: bytes, key: bytes, trust_domain: str, source: Path
) -> Authority:
    """An authority made elsewhere: its certificate (and the root above it) and its key."""
    chain = _ordered(certificates, source)
    private = keys.from_pem(key, source, keys.ask("Passphrase: ") if keys.is_locked(key) else b"")
    if private.public_key() != chain[0].public_key():
        raise InvalidInput("the key is not that of the first certificate")
    for one in chain:
        _check_authority(one)
    with _appearing(store) as new:
        name = INTERMEDIATE if len(chain) > 1 else ROOT
        files.replace(new.path / f"{name}.key", key, 0o600)
        files.replace(new.path / f"{ROOT}.pem", build.pem(chain[-1]), 0o644)
        if len(chain) > 1:
            files.replace(new.path / f"{INTERMEDIATE}.pem", build.pem(chain[0]), 0o644)
        files.replace(new.path / CRL, revocation.make(Pair(chain[0], private), 1, ()), 0o644)
        kind = "p256" if hasattr(private, "curve") else "ed25519"
        new.save(State(trust_domain, kind, crl_number=1))
    return Authority(store)


def _ordered(text: bytes, path: Path) -> list[x509.Certificate]:
    """One or two certificates, the second the first one's self-signed issuer."""
    try:
        chain = x509.load_pem_x509_certificates(text)
    except ValueError:
        raise InvalidInput(f"{path} holds no certificate") from None
    if len(chain) > 2 or chain[-1].issuer != chain[-1].subject:
        raise InvalidInput(
            f"{path} must hold the authority's certificate and, if that is not a root, the root",
            hint="authorities two and more below the root are not supported",
        )
    for one, above in zip(chain, [*chain[1:], chain[-1]], strict=True):
        if not is_signed_by(one, above):
            raise InvalidInput(
                f"{path}: {above.subject.rfc4514_string()} did not sign "
                f"{one.subject.rfc4514_string()}"
            )
    return chain


def _check_authority(certificate: x509.Certificate) -> None:
    name = certificate.subject.rfc4514_string()
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound as error:
        raise InvalidInput(f"{name} is not a certificate authority: {error}") from None
    if not constraints.ca or not usage.key_cert_sign or not usage.crl_sign:
        raise InvalidInput(
            f"{name} may not sign certificates and revocation lists",
            hint="its basicConstraints need CA:TRUE, its keyUsage keyCertSign and cRLSign",
        )
