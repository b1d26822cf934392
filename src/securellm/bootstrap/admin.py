"""The admin app over an application: what operators may see and change, wired to what does it."""

from collections.abc import Collection
from contextlib import suppress

from fastapi import FastAPI

from securellm import __version__
from securellm.admin import KeyEvent, Part, Ports, ThreadedKeys, build_admin
from securellm.audit import KeyChange
from securellm.bootstrap.wiring import Application
from securellm.core.errors import GatewayError


def build_admin_app(application: Application) -> FastAPI:
    """The ASGI application of the admin listener."""

    async def record(event: KeyEvent) -> None:
        await application.gates.journal.record(
            KeyChange(action=event.action, key_id=event.key.id, tenant=event.key.tenant, actor=event.actor)
        )
        # In force here before it is answered. Should this look fail, the regular one follows within a second.
        with suppress(GatewayError):
            await application.refresh()

    def parts() -> tuple[Part, ...]:
        failing = application.failing()
        return tuple(Part(name=name, well=name not in failing) for name in application.PARTS)

    def tenants() -> Collection[str]:
        return application.gates.snapshots.read().tenants.keys()

    return build_admin(
        Ports(
            admin_token=application.keys.admin_token.reveal,
            keys=ThreadedKeys(lambda: application.registry),
            record=record,
            tenants=tenants,
            parts=parts,
            metrics=lambda: application.metrics.render(with_tenants=True),
            refused_credential=application.gates.limits.refused_credential,
            new_id=lambda: application.ids.new("req"),
            clock=application.clock,
            version=__version__,
        )
    )
