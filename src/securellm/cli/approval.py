"""`securellm approval`: what waits for another person, and their yes or no."""

from securellm.cli.resource import Resource, Verb, group_of

command = group_of(
    Resource(
        noun="proposal",
        path="/admin/v1/proposals",
        columns=("id", "state", "action", "resource", "proposed_by", "expires_at"),
        filters=("tenant", "state"),
        makes=False,
        changes=False,
        removes=False,
        verbs=(
            Verb(name="approve", help="Say yes to a proposal of another person; it is carried out at once."),
            Verb(name="reject", help="Say no to a proposal.", body=True),
            Verb(name="withdraw", help="Take back one's own proposal."),
        ),
    ),
    help="Decide what takes two people.",
)
