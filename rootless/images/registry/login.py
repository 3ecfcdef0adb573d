"""``login``: are these credentials good for that registry?"""

from __future__ import annotations

from rootless.errors import RootlessError, Unauthorized, Unavailable
from rootless.images.registry.credentials import Credentials
from rootless.images.registry.settings import RegistrySettings, endpoints
from rootless.images.registry.transport import Transport

SUCCEEDED = "Login Succeeded"


async def login(domain: str, credentials: Credentials, settings: RegistrySettings) -> str:
    """Docker's success text, or Unauthorized / Unavailable. Nothing is stored."""
    failures: list[RootlessError] = []
    async with Transport(settings, credentials) as transport:
        for endpoint in endpoints(domain, settings, push=True):
            try:
                response = await transport.request(endpoint, "GET", "/v2/", scopes=())
            except Unavailable as error:
                failures.append(error)
                continue
            response.release()
            if response.status == 200:
                return SUCCEEDED
            if response.status in (401, 403):
                raise Unauthorized(
                    f"login attempt to {endpoint.base}/v2/ failed with status: "
                    f"{response.status} {response.reason or ''}".strip(),
                    hint="check user name and password",
                )
            failures.append(
                Unavailable(f"GET {endpoint.base}/v2/: unexpected status {response.status}")
            )
    raise failures[-1]
