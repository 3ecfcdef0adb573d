"""The program that verifies signatures, started by the launcher's ``spawn`` (:mod:`.vouching`).

On standard input ``{"keys": [PEM], "digests": [...], "signatures": [[payload, signature]]}``
(base64); the report on descriptor 3 is ``{"result": [[key, digest, repository]]}``, or
``{"error": …, "code": …, "hint": …}``.
"""

from __future__ import annotations

import base64
import json
import sys

from rootless import publickeys
from rootless.errors import RootlessError
from rootless.images.signatures.attached import Signed
from rootless.images.signatures.verify import examine

_REPORT_FD = 3


def main(_arguments: list[str]) -> int:
    """Answer one request."""
    request = json.loads(sys.stdin.buffer.read())
    report: dict[str, object]
    try:
        keys = [publickeys.from_pem(text) for text in request["keys"]]
        found = [Signed(*map(base64.b64decode, pair)) for pair in request["signatures"]]
        done = examine(found, frozenset(request["digests"]), keys)
        report = {
            "result": [
                [each.key, each.claim.digest, each.claim.repository] for each in done.verified
            ]
        }
    except RootlessError as error:
        report = {"error": error.message, "code": error.code, "hint": error.hint}
    with open(_REPORT_FD, "wb") as out:
        out.write(json.dumps(report).encode())
    return 0 if "result" in report else 1
