"""``rootless image verify``: which keys vouch for an image in its registry."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

from rootless.images.registry.client import Repository
from rootless.images.signatures import fetch
from rootless.images.signatures.verify import Verified, examine
from rootless.publickeys import PublicKey
from rootless.trust.common import digest_in, opened, public_key

_EPILOG = """Each key must have signed the image under its own name; a copy that was signed under
another name needs --signed-as. The digest that is printed is what was verified: run
NAME@DIGEST to run just that, or have every image verified by a policy's images.trust.

exit status: 0 every image is signed by every key, 1 one is not, 2 usage

examples:
  rootless image verify --key cosign.pub registry.example/team/app:1.0
  rootless image verify --key cosign.pub --signed-as 'quay.io/team/*' mirror.example/app"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rootless image verify",
        usage="rootless image verify --key FILE [OPTIONS] IMAGE...",
        description="Verify the signatures of images in a registry.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE")
    add("--key", action="append", required=True, metavar="FILE", help="public key (PEM), ECDSA "
        "P-256 or Ed25519; each that is named must have signed")  # fmt: skip
    add("--signed-as", action="append", default=[], metavar="NAME", help="the signer may have "
        "named this repository instead (in full; may end with *)")  # fmt: skip
    add("--format", choices=("text", "json"), default="text", help="of what is printed")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` is without the command's name."""
    options = _parser().parse_intermixed_args(argv)
    keys = [public_key(path) for path in options.key]
    status = 0
    for image in options.images:
        status |= asyncio.run(_verify(image, keys, options))
    return status


async def _verify(image: str, keys: Sequence[PublicKey], options: argparse.Namespace) -> int:
    async with opened(image) as repository:
        digest = await digest_in(repository)
        found = await fetch.fetch(repository, digest)
    done = examine(found, {digest}, keys)
    good = [each for each in done.verified if _named(each, repository, options.signed_as)]
    _print(good, repository, digest, options.format)
    problems = list(done.problems) or ([] if found else ["it has no signatures"])
    for each in done.verified:
        if each not in good:
            name = each.claim.repository or "(no name)"
            problems.append(f"{each.key} signed it as {name}")
    makers = {each.key for each in good}
    missing = [key for key in keys if key.fingerprint not in makers]
    for key in missing:
        reasons = f": {'; '.join(problems)}" if problems else ""
        print(
            f"rootless image verify: {repository.reference.familiar}@{digest} is not signed by "
            f"{key.fingerprint}{reasons}",
            file=sys.stderr,
        )
    return 1 if missing else 0


def _named(each: Verified, repository: Repository, signed_as: Sequence[str]) -> bool:
    wanted = tuple(signed_as) or (repository.reference.name,)
    name = each.claim.repository
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in wanted
    )


def _print(good: Sequence[Verified], repository: Repository, digest: str, form: str) -> None:
    for each in good:
        if form == "text":
            notes = "".join(f" {key}={value}" for key, value in each.claim.optional)
            line = f"{repository.reference.name}@{digest} signed by {each.key}{notes}"
        else:
            line = json.dumps(
                {
                    "image": f"{repository.reference.name}@{digest}",
                    "digest": digest,
                    "key": each.key,
                    "signedAs": each.claim.repository,
                    "annotations": dict(each.claim.optional),
                }
            )
        print("".join(c if c.isprintable() else "?" for c in line), flush=True)
