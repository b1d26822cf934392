"""Any history of requests, refusals, failures, restarts and time: of one key, at most one request is ever paid for."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from tests.unit.cache.test_idempotency import TTL, Gateway, answer

from securellm.cache import Claim, Finished
from securellm.core.errors import Code, Refusal

NAMES = st.sampled_from(["k1", "k2", "k3"])
BODIES = st.sampled_from([b"one", b"two"])
TENANTS = st.sampled_from(["acme", "other"])
PICK = st.integers(0, 10**6)


class Use:
    """What the model knows of the one request that holds a key."""

    def __init__(self, claim: Claim, body: bytes, until: float) -> None:
        self.claim = claim
        self.body = body
        self.until = until
        self.durable = False
        self.running = True
        self.answer: Finished | None = None


class IdempotencyMachine(RuleBasedStateMachine):
    """Drives the keys and their table on a real file, one step of a request at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="idempotency-"))
        # Two keys and one answer fit into memory: what is beyond is read again, or gone.
        self.gateway = Gateway(self.directory / "audit.db", most=2, max_bytes=2_500)
        self.uses: dict[tuple[str, str], Use] = {}

    @rule(tenant=TENANTS, name=NAMES, body=BODIES)
    def ask(self, tenant: str, name: str, body: bytes) -> None:
        now = self.gateway.clock.monotonic()
        use = self.uses.get((tenant, name))
        if use is not None and not use.running and use.until <= now:
            use = None
        got: Any
        try:
            got = asyncio.run(self.gateway.claim(name, body, tenant=tenant))
        except Refusal as refusal:
            got = refusal
        if use is None:
            assert isinstance(got, Claim)
            self.uses[tenant, name] = Use(got, body, now + TTL)
        elif body != use.body:
            assert got.code is Code.IDEMPOTENT_MISMATCH
        elif use.running:
            assert got.code is Code.IDEMPOTENT_IN_FLIGHT
        elif isinstance(got, Finished):
            assert got == use.answer
        else:
            assert got.code is Code.IDEMPOTENT_RESULT_EXPIRED

    def picked(self, choice: int, *, durable: bool) -> tuple[tuple[str, str], Use]:
        running = sorted(key for key, use in self.uses.items() if use.running and use.durable is durable)
        key = running[choice % len(running)]
        return key, self.uses[key]

    @precondition(lambda self: any(use.running and not use.durable for use in self.uses.values()))
    @rule(choice=PICK)
    def record_the_intent(self, choice: int) -> None:
        _, use = self.picked(choice, durable=False)
        self.gateway.intent(use.claim)
        use.durable = True

    @precondition(lambda self: any(use.running and not use.durable for use in self.uses.values()))
    @rule(choice=PICK)
    def refuse_before_it_cost_anything(self, choice: int) -> None:
        key, use = self.picked(choice, durable=False)
        self.gateway.keys.left(use.claim, recorded=False)
        del self.uses[key]

    @precondition(lambda self: any(use.running and use.durable for use in self.uses.values()))
    @rule(choice=PICK, size=st.integers(0, 2_000))
    def answer_it(self, choice: int, size: int) -> None:
        _, use = self.picked(choice, durable=True)
        use.answer = answer(b"x" * size, request_id=use.claim.request_id)
        self.gateway.outcome(use.claim)
        self.gateway.keys.answered(use.claim, use.answer)
        self.gateway.keys.left(use.claim, recorded=True)
        use.running = False

    @precondition(lambda self: any(use.running and use.durable for use in self.uses.values()))
    @rule(choice=PICK, late=st.booleans())
    def lose_its_answer(self, choice: int, late: bool) -> None:
        """The client left, or the stream was cut: the record may come before or after the story's end."""
        _, use = self.picked(choice, durable=True)
        if late:
            self.gateway.keys.left(use.claim, recorded=True)
        self.gateway.outcome(use.claim)
        if not late:
            self.gateway.keys.left(use.claim, recorded=True)
        use.running = False

    @precondition(lambda self: any(use.running and use.durable for use in self.uses.values()))
    @rule(choice=PICK)
    def fail_unbilled(self, choice: int) -> None:
        key, use = self.picked(choice, durable=True)
        self.gateway.outcome(use.claim, freed=True)
        self.gateway.keys.left(use.claim, recorded=True)
        del self.uses[key]

    @rule(seconds=st.floats(0.5, 1.5 * TTL))
    def wait(self, seconds: float) -> None:
        self.gateway.clock.advance(seconds)

    @rule()
    def crash(self) -> None:
        """What was not durable has not happened; what was and did not end may have been billed."""
        self.gateway.restart()
        self.uses = {key: use for key, use in self.uses.items() if use.durable}
        for use in self.uses.values():
            if use.running:
                use.running = False
                self.gateway.entries.append({"type": "OUTCOME", "request_id": use.claim.request_id})
            use.answer = None

    def teardown(self) -> None:
        assert self.gateway.problems() == []
        assert self.gateway.keys.kept_bytes <= 2_500
        self.gateway.writer.close()
        shutil.rmtree(self.directory)


@pytest.mark.requirement("GW-11", "PV-1")
def test_no_history_makes_a_request_twice_under_one_key() -> None:
    run_state_machine_as_test(
        IdempotencyMachine, settings=settings(max_examples=40, stateful_step_count=30, deadline=None)
    )
