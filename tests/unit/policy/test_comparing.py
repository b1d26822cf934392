"""The difference a bundle makes: exhaustive where it can be, and honest where it cannot."""

import pytest
from tests.unit.policy.asking import EVERYTHING, bundle, compiled

from securellm.policy import Action, compare, questions_of
from securellm.policy.comparing import Comparison

pytestmark = pytest.mark.requirement("PO-1")


def between(old: tuple[str, ...], new: tuple[str, ...], *, most: int = 40_000) -> Comparison:
    lattice = questions_of((bundle(*old), bundle(*new)), most=most)
    return compare(compiled(*old), compiled(*new), lattice)


@pytest.mark.parametrize(
    ("clause", "other"),
    [
        ("context.hour > 21", "context.hour > 20"),
        ("context.weekday == 7", "context.weekday == 6"),
        ('context.surface == "chat"', 'context.surface == "messages"'),
        ('context.channel == "mcp"', 'context.channel == "console"'),
        ('context.providers.contains("us")', 'context.providers.contains("eu")'),
        ('context.needs.contains("tools")', 'context.needs.contains("vision")'),
        ("context.approved_by > 1", "context.approved_by > 2"),
        ("context has data_class && context.data_class > 1", "context has data_class && context.data_class > 2"),
        ("context has data_class", "context has tool_risk"),
        ('context has region && context.region == "br"', 'context has region && context.region == "us"'),
        ("context has guard && context.guard.injection > 500", "context has guard && context.guard.injection > 600"),
        (
            'context has guard && context.guard.findings.contains("cpf")',
            'context has guard && context.guard.findings.contains("card")',
        ),
        ('principal in Tenant::"acme"', 'principal in Tenant::"other"'),
        ('principal in Role::"a"', 'principal in Role::"b"'),
        ('principal in User::"ana"', 'principal in User::"bob"'),
        ('principal in Project::"p"', 'principal in Project::"q"'),
        ('principal == Key::"k"', 'principal == Key::"l"'),
        ('resource == Model::"gpt"', 'resource == Model::"claude"'),
        ('action == Action::"stream"', 'action == Action::"invoke"'),
    ],
)
def test_every_difference_of_one_clause_is_found(clause: str, other: str) -> None:
    def rules(said: str) -> tuple[str, ...]:
        return EVERYTHING, f'@id("no") forbid(principal, action, resource) when {{ {said} }};'

    found = between(rules(clause), rules(other))
    assert found.exhaustive
    assert found.changes
    assert between(rules(clause), rules(clause)).changes == ()


def test_a_lost_forbid_is_looser_and_a_new_one_is_not() -> None:
    forbid = '@id("no") forbid(principal, action, resource == Model::"gpt");'
    assert between((EVERYTHING, forbid), (EVERYTHING,)).looser > 0
    assert between((EVERYTHING,), (EVERYTHING, forbid)).looser == 0


def test_a_change_of_obligations_is_a_change() -> None:
    redact, route, approve = (
        (f'@id("a") {said} permit(principal, action, resource);',)
        for said in ('@redact("cpf")', '@route("br")', '@require_approval("1")')
    )
    for bound in (redact, route, approve):
        assert between((EVERYTHING,), bound).changes
    assert between(redact, ('@id("b") @redact("cpf") permit(principal, action, resource);',)).changes == ()


def test_too_many_questions_are_sampled_evenly_and_that_is_said() -> None:
    clauses = " || ".join(
        [
            *("context.hour > 5", "context.weekday > 3", "context.approved_by > 1", 'context.surface == "chat"'),
            *(f'resource == Model::"m{number}"' for number in range(20)),
        ]
    )
    rules = (EVERYTHING, f'@id("no") forbid(principal, action, resource) when {{ {clauses} }};')
    lattice = questions_of((bundle(*rules),), most=500)
    assert not lattice.exhaustive
    assert 250 <= len(lattice.questions) <= 500
    assert {question.hour for question in lattice.questions} == set(range(24))
    assert {question.weekday for question in lattice.questions} == set(range(1, 8))
    assert len({question.resource for question in lattice.questions}) == 21
    assert {Action.INVOKE, Action.STREAM, Action.EMBED} <= {question.action for question in lattice.questions}
