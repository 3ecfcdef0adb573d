"""Who a certificate is for: ``spiffe://TRUST-DOMAIN/role/ROLE/NAME`` (SPIFFE-ID, section 2).

The words are narrow on purpose. They stand in policies, in logs and in file
names, and two that look alike must not be different people.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rootless.errors import InvalidInput

_DOMAIN = re.compile(
    r"(?=.{1,255}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ID = re.compile(r"spiffe://([^/?#]+)/role/([^/?#]+)/([^/?#]+)")


@dataclass(frozen=True, slots=True)
class ClientId:
    """A client: its trust domain, role and name."""

    trust_domain: str
    role: str
    name: str

    @property
    def uri(self) -> str:
        """The SPIFFE ID."""
        return f"spiffe://{self.trust_domain}/role/{self.role}/{self.name}"


def client_id(trust_domain: str, role: str, name: str) -> ClientId:
    """A client whose words are valid; InvalidInput."""
    return ClientId(check_trust_domain(trust_domain), check_role(role), check_name(name))


def parse(uri: str) -> ClientId:
    """The client behind a SPIFFE ID of ours; InvalidInput."""
    found = _ID.fullmatch(uri)
    if found is None:
        raise InvalidInput(
            f"not a client's identity: {uri!r}", hint="write spiffe://TRUST-DOMAIN/role/ROLE/NAME"
        )
    return client_id(*found.groups())


def check_trust_domain(text: str) -> str:
    """``text`` when it can be a trust domain: a DNS name in small letters."""
    hint = "write a DNS name in small letters, such as ci.example.org"
    return _checked(text, _DOMAIN, "trust domain", hint)


def check_role(text: str) -> str:
    """``text`` when it can be a role."""
    hint = "write up to 32 small letters, digits and -, a letter first, such as developer"
    return _checked(text, _ROLE, "role", hint)


def check_name(text: str) -> str:
    """``text`` when it can be a client's or server's name."""
    hint = "write up to 64 letters, digits, '.', '_' and '-', a letter or digit first"
    return _checked(text, _NAME, "name", hint)


def _checked(text: str, form: re.Pattern[str], what: str, hint: str) -> str:
    if not form.fullmatch(text):
        raise InvalidInput(f"invalid {what}: {text!r}", hint=hint)
    return text
