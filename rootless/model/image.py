"""What policies look at in an image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Voucher:
    """A signature that was verified: ``key`` (its fingerprint) vouches for ``digest``.

    ``digest`` is of the image's manifest, or of an index that lists it; ``repository`` the
    one that the signer named.
    """

    key: str
    digest: str
    repository: str


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One image. None is what whoever asks did not look at: a file shows names only."""

    name: str
    """In full, as it was asked for: ``docker.io/library/busybox:latest``; an id has no name."""
    created_ns: int | None = None
    """By its configuration, which is the builder's word."""
    size: int | None = None
    """Bytes of its layers' files."""
    vouchers: tuple[Voucher, ...] | None = None
    setuid: tuple[str, ...] | None = None
    """Its files that give whoever runs them rights (setuid, setgid, file capabilities)."""

    @property
    def repository(self) -> str:
        """The name without tag and digest, '' for an id."""
        if self.name.startswith("sha256:"):
            return ""
        name = self.name.partition("@")[0]
        head, slash, last = name.rpartition("/")
        return f"{head}{slash}{last.partition(':')[0]}"
