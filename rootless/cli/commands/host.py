"""doctor, setup, check-policy, policy, audit, image sign, pki: programs without the daemon.

They parse their own arguments; this module only finds them.
"""

from __future__ import annotations

from importlib import import_module

from rootless.cli.command import Command, Invocation
from rootless.cli.flags import UsageError


def _call(module: str, arguments: list[str], function: str = "main") -> int:
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            raise UsageError("this version has no such command", status=1) from None
        raise
    status = getattr(found, function)(arguments)
    return status if isinstance(status, int) else 0


def _doctor(call: Invocation) -> int:
    return _call("rootless.host.doctor", call.args)


def _setup(call: Invocation) -> int:
    return _call("rootless.host.setup", call.args)


def _check_policy(call: Invocation) -> int:
    host: list[str] = []
    if call.where is not None and (call.where.host or call.where.context):
        from rootless.client.endpoint import choose

        host = ["--host", choose(call.where).host]
    return _call("rootless.check.main", [*host, *call.args])


def _policy(verb: str, module: str, usage: str, summary: str) -> Command:
    def run(call: Invocation) -> int:
        return _call(f"rootless.check.{module}", call.args)

    return Command(run, usage=f"policy {verb} {usage}", summary=summary, max_args=None)


DOCTOR = Command(
    _doctor,
    usage="doctor [OPTIONS]",
    summary="Check what this host can do, what is missing, and the command that mends it",
    max_args=None,
)
SETUP = Command(
    _setup,
    usage="setup [OPTIONS]",
    summary="Prepare this host (as root)",
    max_args=None,
)
CHECK_POLICY = Command(
    _check_policy,
    usage="check-policy [OPTIONS] [POLICY...] [INPUT...]",
    summary="Check policies, and inputs against them",
    max_args=None,
)
AUDIT = Command(
    lambda call: _call("rootless.check.audit", call.args),
    usage="audit show|tail|verify|selinux [OPTIONS]",
    summary="Read and verify the log of the policy's decisions",
    max_args=None,
)


def _image(verb: str, module: str, usage: str, summary: str) -> Command:
    def run(call: Invocation) -> int:
        return _call(f"rootless.trust.{module}", call.args)

    return Command(run, usage=f"image {verb} {usage}", summary=summary, max_args=None)


IMAGE_KEYS = _image(
    "generate-key-pair", "generate", "[OPTIONS]", "Make a key pair to sign images with"
)
IMAGE_SIGN = _image(
    "sign", "sign", "--key FILE [OPTIONS] IMAGE...", "Sign images in a registry with a key"
)
IMAGE_VERIFY = _image(
    "verify", "verify", "--key FILE [OPTIONS] IMAGE...",
    "Verify the signatures of images in a registry",
)  # fmt: skip


def _pki(verb: str, place: str, usage: str, summary: str) -> Command:
    module, _, function = place.partition(":")

    def run(call: Invocation) -> int:
        return _call(f"rootless.pki.commands.{module}", call.args, function or "main")

    return Command(run, usage=f"pki {verb} {usage}", summary=summary, max_args=None)


PKI_CRL = _pki("crl", "revoke:main_crl", "[OPTIONS]", "Make a new revocation list")
PKI_CSR = _pki("csr", "requests", "[OPTIONS] NAME", "Make a key and a request for a certificate")
PKI_EXPORT = _pki(
    "export", "issue:main_export", "NAME DIR", "Copy a certificate and its key for its holder"
)
PKI_IMPORT = _pki(
    "import", "init:main_import", "CERTIFICATE KEY", "Use an authority that was made elsewhere"
)
PKI_INIT = _pki("init", "init", "[OPTIONS]", "Make a certificate authority")
PKI_ISSUE = _pki("issue", "issue", "server|client NAME...", "Issue a certificate with a new key")


def _renew(call: Invocation) -> int:
    if "--remote" in call.args:
        return import_module("rootless.cli.commands.renewal").renew(call)  # type: ignore[no-any-return]  # import_module gives Any
    return _call("rootless.pki.commands.issue", call.args, "main_renew")


PKI_RENEW = Command(
    _renew,
    usage="pki renew NAME...|--due|--remote|--authority",
    summary="Renew certificates",
    max_args=None,
)
PKI_REVOKE = _pki("revoke", "revoke", "WHAT...", "Take certificates back")
PKI_SIGN = _pki(
    "sign", "requests:main_sign", "--name NAME --role ROLE REQUEST", "Sign a client's request"
)
PKI_STATUS = _pki("status", "status", "[OPTIONS]", "Show what was issued and what ends when")
PKI_VERIFY = _pki("verify", "status:main_verify", "CERTIFICATE...", "Check certificates")
POLICY_DIFF = _policy("diff", "diff", "OLD NEW [INPUT...]", "Print what differs between policies")
POLICY_EXPLAIN = _policy("explain", "explain", "[NAME]", "Print what a rule or a field is about")
POLICY_INIT = _policy("init", "init", "[OPTIONS] [FILE]", "Write a policy to begin with")
POLICY_MERGE = _policy(
    "merge", "merge", "[OPTIONS] FILE...", "Print several policies or profiles as one"
)
POLICY_SHOW = _policy(
    "show", "show", "[OPTIONS] [POLICY...]", "Print what policies say, and where values are from"
)
POLICY_TEST = _policy("test", "testing", "[OPTIONS] FILE...", "Run the tests of policies")
