"""``rootless image sign``: a signature in cosign's form, beside the image in its registry."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from rootless.errors import InvalidInput
from rootless.images.signatures import fetch, payload, privatekeys, verify
from rootless.images.signatures.attached import Signed
from rootless.images.signatures.privatekeys import MAX_KEY, PrivateKey
from rootless.trust.common import digest_in, opened, read_file

PASSWORD = "COSIGN_PASSWORD"  # noqa: S105 - the variable's name, as cosign has it

_EPILOG = """The image must be in its registry: what is signed is the digest that the registry has
under the name (for several platforms that of the index). Signatures of other keys stay; one
that is there already is not made again. cosign verify --key, skopeo, Podman and a
policy's images.trust read it. An encrypted key's password is asked for, or taken from
COSIGN_PASSWORD.

examples:
  rootless image generate-key-pair
  rootless image sign --key cosign.key registry.example/team/app:1.0
  rootless image sign --key cosign.key -a build=4711 registry.example/team/app@sha256:…"""


def ask_password(prompt: str) -> bytes:
    """From the environment or the terminal; InvalidInput where there is neither."""
    given = os.environ.get(PASSWORD)
    if given is not None:
        return os.fsencode(given)
    if not sys.stdin.isatty():
        raise InvalidInput(
            "the key's password cannot be asked for: there is no terminal",
            hint=f"put it into the variable {PASSWORD}",
        )
    import getpass

    return getpass.getpass(prompt).encode()


def _annotations(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InvalidInput(f"invalid annotation {text!r}: write NAME=VALUE")
        found[name] = value
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rootless image sign",
        usage="rootless image sign --key FILE [OPTIONS] IMAGE...",
        description="Sign images in a registry with a key.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE")
    add("--key", required=True, metavar="FILE", help="private key: cosign's, or PKCS#8 in PEM; "
        "ECDSA P-256 or Ed25519")  # fmt: skip
    add("-a", "--annotation", action="append", default=[], metavar="NAME=VALUE",
        help="something more that the signature vouches for; may be repeated")  # fmt: skip
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` is without the command's name."""
    options = _parser().parse_intermixed_args(argv)
    annotations = _annotations(options.annotation)
    data = read_file(options.key, MAX_KEY)
    key = privatekeys.load(data, lambda: ask_password(f"Password of {options.key}: "), options.key)
    for image in options.images:
        print(asyncio.run(_sign(image, key, annotations)), flush=True)
    return 0


async def _sign(image: str, key: PrivateKey, annotations: dict[str, str]) -> str:
    public = key.public
    async with opened(image, push=True) as repository:
        digest = await digest_in(repository)
        name = repository.reference.name
        wanted = payload.encode(name, digest, annotations)
        for found in await fetch.fetch(repository, digest):
            if found.payload == wanted and verify.holds(public, found):
                return f"{name}@{digest} is signed already by {public.fingerprint}"
        await fetch.attach(repository, digest, Signed(wanted, key.sign(wanted)))
    return f"{name}@{digest} signed by {public.fingerprint}"
