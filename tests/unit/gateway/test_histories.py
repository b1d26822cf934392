"""What a provider keeps for one tenant does not exist for another."""

import pytest

from securellm.core.errors import Code, Refusal
from securellm.gateway.histories import Histories


def test_the_tenant_that_made_an_answer_may_continue_it() -> None:
    histories = Histories()
    histories.note("acme", "resp_1")

    histories.refuse_foreign("acme", ("resp_1",), alone=False)


@pytest.mark.parametrize("alone", [True, False])
def test_another_tenants_answer_is_not_found(alone: bool) -> None:
    histories = Histories()
    histories.note("acme", "resp_1")

    with pytest.raises(Refusal) as refused:
        histories.refuse_foreign("other", ("resp_1",), alone=alone)

    assert refused.value.code is Code.NOT_FOUND


def test_an_answer_nobody_here_made_is_found_only_where_there_is_one_tenant() -> None:
    histories = Histories()

    histories.refuse_foreign("acme", ("resp_before_the_restart",), alone=True)
    with pytest.raises(Refusal):
        histories.refuse_foreign("acme", ("resp_before_the_restart",), alone=False)


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first() -> None:
    histories = Histories(most=2)
    for number in range(3):
        histories.note("acme", f"resp_{number}")

    histories.refuse_foreign("acme", ("resp_1", "resp_2"), alone=False)
    with pytest.raises(Refusal):
        histories.refuse_foreign("acme", ("resp_0",), alone=False)
