"""``rootless image generate-key-pair``: keys as cosign's command of that name makes them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from rootless.errors import Conflict, InvalidInput
from rootless.images.signatures import privatekeys
from rootless.trust.sign import PASSWORD, ask_password

_EPILOG = """Writes PREFIX.key, encrypted with a password, and PREFIX.pub into the working
directory; files that are there are never overwritten. The password is asked for, or taken from
COSIGN_PASSWORD. cosign and skopeo (Ed25519: newer versions only) sign with such a key."""


def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` is without the command's name."""
    parser = argparse.ArgumentParser(
        prog="rootless image generate-key-pair",
        usage="rootless image generate-key-pair [OPTIONS]",
        description="Make a key pair to sign images with.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--output-key-prefix", default="cosign", metavar="PREFIX", help="default: cosign")
    add("--type", choices=("ecdsa-p256", "ed25519"), default="ecdsa-p256", help="of the keys "
        "(default: ecdsa-p256)")  # fmt: skip
    options = parser.parse_args(argv)
    private, public = f"{options.output_key_prefix}.key", f"{options.output_key_prefix}.pub"
    for path in (private, public):
        if os.path.lexists(path):
            raise Conflict(
                f"{path} exists already, and keys are not overwritten",
                hint="move it away, or name another --output-key-prefix",
            )
    secret = ask_password("Password of the new key: ")
    if PASSWORD not in os.environ and secret != ask_password("The same again: "):
        raise InvalidInput("the passwords are not the same")
    text, key = privatekeys.generate(options.type, secret)
    _write(private, text, 0o600)
    try:
        _write(public, key.pem, 0o644)
    except OSError:
        os.unlink(private)  # half a pair is of no use
        raise
    print(f"{private} and {public}: {key.fingerprint}", file=sys.stderr)
    return 0


def _write(path: str, text: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(fd, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        os.unlink(path)
        raise
