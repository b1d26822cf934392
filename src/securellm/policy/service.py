"""The verb of policy: permit, or refuse."""

from securellm.policy.model import Facts, Permit
from securellm.policy.rules import decide


class Policy:
    """The gate that alone mints a `Permit`."""

    async def permit(self, facts: Facts, *, decision_id: str) -> Permit:
        """Raises `Refusal` (UNKNOWN_MODEL, MODEL_NOT_ALLOWED)."""
        return Permit(model=facts.model, decision_id=decision_id, bundle=facts.bundle, reasons=decide(facts))
