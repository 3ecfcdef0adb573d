"""``--disable-content-trust``, Docker's flag of signatures by Notary."""

from __future__ import annotations

from rootless.cli.command import BOOL
from rootless.cli.flags import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.command import Flag, Invocation

TRUST_FLAG: Flag = (
    "disable-content-trust",
    "",
    BOOL,
    True,
    "Skip image verification; false is refused, as Notary is not asked",
)


def refuse_trust(call: Invocation) -> None:
    """Refuse ``--disable-content-trust=false``: a protection asked for that we do not have."""
    if not call["disable-content-trust"]:
        raise UsageError(
            "--disable-content-trust=false is not supported: Notary's signatures are not checked",
            hint="have a policy require cosign's: images.trust (docs/policy.md)",
        )
