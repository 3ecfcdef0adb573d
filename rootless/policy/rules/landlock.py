"""Whether the kernel can keep what the policy's Landlock rules say."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy.policy import Policy
from rootless.policy.rules.base import Case, Violation, rule

FILES = ("landlock.read", "landlock.write")
NETWORK = ("landlock.connectTcp", "landlock.bindTcp")
_NETWORK_ABI = 4


def needed_abi(policy: Policy) -> int:
    """The Landlock ABI that the policy's rules need; 0 without rules."""
    if any(key in policy.constraints for key in NETWORK):
        return _NETWORK_ABI
    return 1 if any(key in policy.constraints for key in FILES) else 0


@rule(
    "landlock.available",
    "high",
    keys=(*FILES, *NETWORK),
    references=("NIST 800-190 4.4.3",),
    remediation="use a kernel with Landlock (lsm=landlock,… at boot), or let containers go "
    "without by landlock.allowWithout",
)
def available(case: Case) -> Iterator[Violation]:
    """Rules that the kernel cannot keep are not taken for kept."""
    need, have = needed_abi(case.policy), case.facts.landlock_abi
    if case.offline or need <= have or case.policy.permits_only("landlock.allowWithout"):
        return
    reason = f"the rules need Landlock ABI {need} and this kernel has {have}"
    yield Violation("Landlock", f"ABI {have}", reason, "landlock.read")


@rule(
    "landlock.listening",
    "high",
    keys=("landlock.bindTcp",),
    references=("NIST 800-190 4.4.3",),
    remediation="start the container anew under this policy, or allow the port",
)
def listening(case: Case) -> Iterator[Violation]:
    """A running container listens on the ports that the policy lets it bind, and on no other."""
    allowed = case.policy.names_of("landlock.bindTcp")
    if allowed is None:
        return
    for port in case.observed.get("listening", "").split():
        if port not in allowed:
            reason = "the container listens on a port that the policy does not let it bind"
            yield Violation("Landlock", f"tcp/{port}", reason, "landlock.bindTcp")


RULES = (available, listening)
