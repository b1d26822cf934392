"""Where credentials are sent: one person says so while they are the only one, and two stand behind it from then on.

Whoever moves a provider that has a credential receives that credential. People who are disabled count as well: else
one of two could shut the other out, and go on alone.
"""

from collections.abc import Callable

import msgspec
from starlette.responses import Response

from securellm.admin.calls import Call
from securellm.admin.critical import Arguments, Critical, Criticals, Hands, propose
from securellm.admin.declared import Document, Found
from securellm.admin.ports import Changed, Ports
from securellm.approvals import EYES
from securellm.core.errors import Code, Refusal
from securellm.identity import Actor, Permission
from securellm.storage import Session

PLACES = frozenset({"kind", "base_url", "credential", "ca_file", "client_cert", "client_key", "proxy"})
"""What decides to whom a credential and a prompt are sent, and whom we believe to be them."""


class Acts(msgspec.Struct, frozen=True, kw_only=True):
    """What is proposed, as the resource itself does it. Each raises what its request would."""

    check_new: Callable[[Session, Document], None]
    create: Callable[[Session, Document], Found]
    check_other: Callable[[Session, Arguments], None]
    replace: Callable[[Session, Arguments], tuple[Found, Found]]
    """Before and after."""
    answer: Callable[[Found, int], Response]


class Placing:
    """Says which declarations take a second person, and has them wait for one."""

    def __init__(self, ports: Ports, criticals: Criticals, acts: Acts) -> None:
        self._directory = ports.directory
        self._creating = criticals.add(
            Critical(
                action="create_provider",
                verb="create",
                resource="providers",
                approval=Permission.PROVIDERS_PLACE,
                check=lambda session, actor, asked: _may(actor, lambda: acts.check_new(session, asked["document"])),
                perform=lambda session, hands, asked: _made(hands, lambda: acts.create(session, asked["document"])),
                answer=lambda made: acts.answer(made, 201),
            )
        )
        self._replacing = criticals.add(
            Critical(
                action="replace_provider",
                verb="replace",
                resource="providers",
                approval=Permission.PROVIDERS_PLACE,
                check=lambda session, actor, asked: _may(actor, lambda: acts.check_other(session, asked)),
                perform=lambda session, hands, asked: _changed(hands, lambda: acts.replace(session, asked)),
                answer=lambda made: acts.answer(made, 200),
            )
        )

    def allow(self, call: Call, before: Document, after: Document) -> bool:
        """Whether a credential would be sent elsewhere than now: what two stand behind.

        Raises `Refusal` (FORBIDDEN) when what is said of places is not for this caller to say.
        """
        moved = sorted(name for name in PLACES if before.get(name) != after.get(name))
        # A new provider of a kind that says itself where it is, and without a credential, sends nothing anywhere.
        if moved and not (not before and moved == ["kind"]):
            call.allow(None, permission=Permission.PROVIDERS_PLACE)
        return bool(moved) and after.get("credential") is not None

    async def alone(self, call: Call) -> bool:
        """Whether there is nobody else to ask. With the glass broken that is for the glass to say."""
        return call.break_glass is None and await call.read(lambda session: len(self._holders(session)) < EYES)

    def demand_alone(self, session: Session) -> None:
        """Raises `Refusal` (CONFLICT) when there is a second person by now."""
        if len(self._holders(session)) >= EYES:
            raise Refusal(Code.CONFLICT, "by now two people stand behind this: send it again to propose it")

    async def propose(self, call: Call, arguments: Arguments) -> Response:
        critical = self._replacing if "etag" in arguments else self._creating
        return await propose(call, critical, tenant=None, arguments=arguments, reason="")

    def _holders(self, session: Session) -> frozenset[str]:
        return self._directory.holders(session, Permission.PROVIDERS_PLACE, tenant=None)


def _may(actor: Actor, check: Callable[[], None]) -> None:
    """With the rights that whoever asked for it holds now."""
    for permission in (Permission.PROVIDERS_WRITE, Permission.PROVIDERS_PLACE):
        if not actor.may(permission, tenant=None):
            raise Refusal(Code.FORBIDDEN, f"this asks for the permission {permission.value}")
    check()


def _made(hands: Hands, create: Callable[[], Found]) -> Changed[Found]:
    _may(hands.requester, lambda: None)
    made = create()
    return Changed(result=made, id=made.name, after=made.document)


def _changed(hands: Hands, replace: Callable[[], tuple[Found, Found]]) -> Changed[Found]:
    _may(hands.requester, lambda: None)
    before, after = replace()
    return Changed(result=after, id=after.name, before=before.document, after=after.document)
