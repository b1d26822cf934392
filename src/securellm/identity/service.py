"""The gate of identity: recognise who asks."""

from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.identity.issuers import Issuers, Vouched
from securellm.identity.jwt import TokenRefused
from securellm.identity.model import Identity
from securellm.identity.people import NO_SERVICES, ServiceTable
from securellm.identity.rules import PEPPER_BYTES, check, digest_of, is_credential, refuse_elsewhere, refuse_surface
from securellm.identity.table import KeyTable


class Identities:
    """The gate that alone mints an `Identity`."""

    def __init__(self, pepper: bytes, clock: Clock, *, issuers: Issuers | None = None) -> None:
        if len(pepper) < PEPPER_BYTES:
            raise ValueError(f"a pepper has at least {PEPPER_BYTES} bytes")
        self._pepper = pepper
        self._clock = clock
        self._issuers = issuers

    async def identify(
        self,
        table: KeyTable,
        credential: str | None,
        *,
        surface: Surface | None,
        client_ip: str = "",
        services: ServiceTable = NO_SERVICES,
    ) -> Identity:
        """Who presents `credential`: a virtual key, or the token an issuer signed for a service. With no `surface`
        it may be scoped to any.

        Raises `Refusal` (MISSING_KEY, INVALID_KEY, REVOKED_KEY, EXPIRED_KEY, IP_NOT_ALLOWED, SURFACE_NOT_ALLOWED),
        `Fault` (ISSUER_UNAVAILABLE).
        """
        if not credential:
            raise Refusal(Code.MISSING_KEY, "the request carries no virtual key")
        digest = digest_of(credential, pepper=self._pepper) if is_credential(credential) else None
        key = None if digest is None else table.find(digest)
        if key is None or digest is None:
            if self._issuers is not None and self._issuers.takes(credential):
                return await self._service(self._issuers, credential, services, surface=surface, client_ip=client_ip)
            raise Refusal(Code.INVALID_KEY, "no such virtual key")
        check(key, digest=digest, now_us=self._clock.now_us(), surface=surface, client_ip=client_ip)
        return Identity(
            tenant=key.tenant,
            key_id=key.id,
            principal=f"key:{key.id}",
            models=key.models,
            surfaces=key.surfaces,
            project=key.project,
            user=key.user,
            expires_us=key.former_until_us if digest == key.former_digest else key.expires_us,
        )

    async def _service(
        self, issuers: Issuers, token: str, services: ServiceTable, *, surface: Surface | None, client_ip: str
    ) -> Identity:
        try:
            vouched = await issuers.vouch(token)
        except TokenRefused as refused:
            raise Refusal(Code.EXPIRED_KEY if refused.expired else Code.INVALID_KEY, refused.reason) from None
        service = services.find(vouched.issuer.issuer, vouched.subject)
        if service is None or service.tenant is None or vouched.issuer.tenant not in (None, service.tenant):
            raise Refusal(Code.INVALID_KEY, "the token is valid, and no service here is its subject")
        if service.disabled:
            raise Refusal(Code.REVOKED_KEY, "the service is disabled")
        refuse_elsewhere(service.ip_ranges, client_ip)
        refuse_surface(service.surfaces, surface)
        return Identity(
            tenant=service.tenant,
            key_id=service.id,
            principal=service.principal,
            models=service.models,
            surfaces=service.surfaces,
            project=service.project,
            expires_us=_end_of(vouched),
        )


def _end_of(vouched: Vouched) -> int | None:
    ends = vouched.claims.get("exp")
    return round((ends + vouched.issuer.clock_skew) * 1_000_000) if isinstance(ends, int) else None
