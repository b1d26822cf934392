"""Decisions that were really made, asked again: what another bundle would have changed about them.

A record says what policy was asked, but not in which hour: a request that came in one hour and was recorded in the
next is asked for both, and where the answers differ nobody can tell. What cannot be told is counted with its reason.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Literal, NamedTuple

import msgspec

from securellm.policy.bundles import Bundle, BundleRefused, hash_of
from securellm.policy.comparing import EXAMPLES, Standing
from securellm.policy.confining import command_of, confined
from securellm.policy.inforce import INSTALLATION, Declared
from securellm.policy.model import Answer, Question, Verdict
from securellm.policy.obligations import bound
from securellm.policy.rules import HOUR, hour_and_weekday

MOST_QUESTIONS = 20_000
"""Different questions of one replay."""
MOST_CHANGES = 100
"""Kinds of change that are told apart."""
MOST_RULES = 126
"""Policies that a record names at least, where so many decided; the others are cut off."""
LONGEST_WAIT = 24
"""Hours between a request and its record, at most: in a longer time nothing of the hour is known."""

SECONDS = 40.0
"""How long a replay's questions may take; their child's processor time is bounded apart from that."""

FAILED = -1
"""In the place of an answer: the engine gave none."""

_COMMAND = command_of("securellm.policy.questioning")
_LISTED = 2
"""The allow-lists' own rules stand before those of the bundles."""

Held = Literal["allow", "deny", "approval_required"]


class Unknown(StrEnum):
    """Why a decision cannot be asked again."""

    NOT_WRITTEN_DOWN = "not_written_down"
    """The record does not hold what policy was asked."""
    NOT_SCREENED = "not_screened"
    """A bundle asks what screening finds, and nothing had been screened."""
    HOUR = "hour"
    """It was made in one of several hours, and not in each of them alike."""
    DAMAGED = "damaged"
    """The record is not what was written, or is missing."""


class _Recorded(NamedTuple):
    """A decision of policy as its record has it, but for its request."""

    tenant: str
    questions: tuple[Question, ...]
    """Their hours say nothing."""
    hours: tuple[int, ...]
    """Since the Unix epoch: in one of them it was made."""
    held: Held
    rules: tuple[str, ...]
    """The policies that decided."""
    basis: str
    """The bundles that were in force."""


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions of which something cannot be said, or must not be believed."""

    count: int = 0
    requests: tuple[str, ...] = ()
    """The ids of some of them."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that are answered in one way, and would have been answered in another."""

    result: Literal["denied", "allowed", "otherwise_bound", "otherwise_refused"]
    before: Standing
    after: Standing
    count: int
    requests: tuple[str, ...]
    """The ids of some of them."""
    question: Question
    """What the first of them asked; of a batch, about itself."""


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle would have changed about the requests that there really were."""

    decisions: int
    """All that were looked at: the sum of those below, damaged records aside."""
    same: int
    denied: int
    """Allowed by what is in force, and would have been refused."""
    allowed: int
    """The other way round."""
    otherwise_bound: int
    otherwise_refused: int
    """Refused by both, by one of them for want of an approval or because a policy fails."""
    changes: tuple[Turn, ...]
    more_changes: int
    """Kinds of change that are counted above and not told apart."""
    not_replayable: Mapping[Unknown, Doubt]
    drifted: Doubt
    """The bundles in force decided otherwise then, by the record, than now: believe neither."""
    elsewhere: Mapping[str, int]
    """Requests that other gates refused, by the code they gave: with another policy they would be refused as well."""
    other_policies: int
    """Decisions above that were made under other bundles than those in force; they are asked of those in force."""

    @property
    def changed(self) -> int:
        """Requests that would have been answered in another way."""
        return self.denied + self.allowed + self.otherwise_bound + self.otherwise_refused


class Inquiry(msgspec.Struct, frozen=True, kw_only=True):
    """Which bundles are asked what."""

    bundles: tuple[Bundle, ...]
    """The candidate first, which is tried whole. The others are in force: they were."""
    questions: tuple[Question, ...]
    asks: tuple[tuple[int, ...], ...]
    """For each question, the bundles that are asked it."""


class Replies(msgspec.Struct, frozen=True, kw_only=True):
    """What they answered; nothing where the candidate did not pass its trial."""

    problems: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    """Every answer that was given, once."""
    given: tuple[tuple[int, ...], ...] = ()
    """As `Inquiry.asks`, the answers by their places, or FAILED."""


class Lineup:
    """The bundles in force, and the one that would take the place of its scope's."""

    def __init__(self, declared: Iterable[Declared], candidate: Bundle, *, tenant: str) -> None:
        """Of `declared` the enforced ones; `tenant` is the candidate's scope."""
        enforced = {row.tenant: row.bundle for row in declared if row.state == "enforced"}
        self.candidate = hash_of(candidate)
        self._before = {scope: hash_of(bundle) for scope, bundle in enforced.items()}
        self._after = {**self._before, tenant: self.candidate}
        self.bundles = {hash_of(bundle): bundle for bundle in (*enforced.values(), candidate)}

    def before(self, tenant: str) -> tuple[str, ...]:
        """The hashes of the bundles that decide about this tenant's requests."""
        return _composed(self._before, tenant)

    def after(self, tenant: str) -> tuple[str, ...]:
        """Those that would."""
        return _composed(self._after, tenant)

    def basis(self, tenant: str) -> str:
        """As records name those in force."""
        return " ".join(f"cedar-{digest}" for digest in self.before(tenant))


def _composed(scopes: Mapping[str, str], tenant: str) -> tuple[str, ...]:
    return tuple(scopes[scope] for scope in dict.fromkeys((INSTALLATION, tenant)) if scope in scopes)


class Traffic:
    """Recorded decisions on their way to be asked again. Equal ones are kept once, so it stays small."""

    def __init__(self, lineup: Lineup) -> None:
        self.decisions = 0
        self.elsewhere: Counter[str] = Counter()
        self.damaged = 0
        self._lineup = lineup
        self._kinds: dict[_Recorded, _Kind] = {}
        self._asks: dict[Question, dict[str, None]] = {}
        self._unknown: dict[Unknown, _Kind] = {}

    @property
    def full(self) -> bool:
        """Whether no other question may be added."""
        return len(self._asks) >= MOST_QUESTIONS

    def refused(self, code: str) -> None:
        """Another gate than policy refused a request."""
        self.decisions += 1
        self.elsewhere[code] += 1

    def add(
        self,
        request_id: str,
        questions: tuple[Question, ...],
        *,
        tenant: str,
        held: Held,
        rules: Sequence[str],
        policy_version: str,
        from_us: int | None,
        until_us: int,
    ) -> None:
        """Take in one decision of policy.

        Its own question comes first, and there is none where the record does not say; their hours are made of the two
        moments, between which the decision was made. `rules` and `policy_version` are the record's.
        """
        self.decisions += 1
        hours = _hours_between(from_us, until_us)
        if not questions or not hours:
            reason = Unknown.HOUR if questions else Unknown.NOT_WRITTEN_DOWN
            self._unknown.setdefault(reason, _Kind()).add(request_id)
            return
        recorded = _Recorded(
            tenant=tenant,
            questions=questions,
            hours=hours,
            held=held,
            rules=tuple(rules[_LISTED:] if held == "allow" else rules),
            basis=policy_version.partition(" ")[2],
        )
        kind = self._kinds.get(recorded)
        if kind is None:
            kind = self._kinds[recorded] = _Kind()
            self._ask(recorded)
        kind.add(request_id)

    def _inquiry(self) -> Inquiry:
        """What must be asked of whom; a bundle that nobody asks stays at home."""
        asked = (digest for digests in self._asks.values() for digest in digests)
        who = tuple(dict.fromkeys((self._lineup.candidate, *asked)))
        places = {digest: place for place, digest in enumerate(who)}
        return Inquiry(
            bundles=tuple(self._lineup.bundles[digest] for digest in who),
            questions=tuple(self._asks),
            asks=tuple(tuple(places[digest] for digest in asked) for asked in self._asks.values()),
        )

    def replay(self, *, seconds: float = SECONDS) -> Replay:
        """The difference, once a child has asked the bundles. Blocks.

        Raises BundleRefused where the candidate cannot be tried, and where trying it all takes longer than `seconds`.
        """
        inquiry = self._inquiry()
        told = confined(_COMMAND, msgspec.json.encode(inquiry), seconds=seconds)
        if isinstance(told, str):
            raise BundleRefused((told,))
        return self._judged(_replies(told, inquiry))

    def _judged(self, replies: Replies) -> Replay:
        table: dict[Question, dict[str, Answer | None]] = {}
        for (question, asked), places in zip(self._asks.items(), replies.given, strict=True):
            answers = (None if place == FAILED else replies.answers[place] for place in places)
            table[question] = dict(zip(asked, answers, strict=True))
        outcome = _Outcome(self._unknown)
        for recorded, kind in self._kinds.items():
            self._judge(recorded, kind, table, outcome)
        return outcome.replay(self)

    def _ask(self, recorded: _Recorded) -> None:
        lineup = self._lineup
        asked = (*lineup.before(recorded.tenant), *lineup.after(recorded.tenant))
        for hour in recorded.hours:
            for question in recorded.questions:
                self._asks.setdefault(_at(question, hour), {}).update(dict.fromkeys(asked))

    def _judge(
        self,
        recorded: _Recorded,
        kind: "_Kind",
        table: Mapping[Question, Mapping[str, Answer | None]],
        found: "_Outcome",
    ) -> None:
        """Count decisions of one kind where they belong."""
        lineup, tenant = self._lineup, recorded.tenant

        def under(bundles: tuple[str, ...], hour: int) -> Standing | None:
            return _standing([_at(question, hour) for question in recorded.questions], bundles, table)

        pairs = {(under(lineup.before(tenant), hour), under(lineup.after(tenant), hour)) for hour in recorded.hours}
        if len(pairs) > 1:
            found.unknown(Unknown.HOUR, kind)
            return
        ((before, after),) = pairs
        if recorded.basis == lineup.basis(tenant):
            if before is not None and not _agree(before, recorded):
                found.drifted.take(kind)
                return
        elif before is not None and after is not None:
            found.other_policies += kind.count
        if before is None or after is None:
            found.unknown(Unknown.NOT_SCREENED, kind)
        else:
            found.compared(before, after, kind, _at(recorded.questions[0], recorded.hours[0]))


def _replies(told: bytes, inquiry: Inquiry) -> Replies:
    try:
        replies = msgspec.json.decode(told, type=Replies)
    except msgspec.DecodeError:
        raise BundleRefused(("asking it gave no answers",)) from None
    if replies.problems:
        raise BundleRefused(replies.problems)
    whole = [len(places) for places in replies.given] == [len(asked) for asked in inquiry.asks]
    if not whole or not all(FAILED <= place < len(replies.answers) for places in replies.given for place in places):
        raise BundleRefused(("asking it gave no answers",))
    return replies


def _hours_between(from_us: int | None, until_us: int) -> tuple[int, ...]:
    """The hours since the epoch that a moment between the two can lie in; none where that says nothing."""
    if from_us is None:
        return ()
    first, last = from_us // HOUR, until_us // HOUR
    return tuple(range(first, last + 1)) if 0 <= last - first <= LONGEST_WAIT else ()


def _agree(before: Standing, recorded: _Recorded) -> bool:
    rules = before.rules if len(recorded.rules) < MOST_RULES else before.rules[: len(recorded.rules)]
    return before.decision == recorded.held and rules == recorded.rules


def _at(question: Question, hour: int) -> Question:
    of_day, weekday = hour_and_weekday(hour * HOUR)
    return msgspec.structs.replace(question, hour=of_day, weekday=weekday)


def _standing(
    questions: Sequence[Question], bundles: Sequence[str], table: Mapping[Question, Mapping[str, Answer | None]]
) -> Standing | None:
    """What all bundles together say to all questions of one request, as the gate would; None: not without screening.

    The first refusal is the request's own. What it is bound to is what all of its questions are bound to. Of a batch
    that is made of a file the models are never asked about with what screening found: the file was screened before.
    """
    allowed: list[Standing] = []
    later = False
    screened = questions[0].guard is not None
    for question in questions:
        answers = [table[question][digest] for digest in bundles]
        told = _together(answers, question.approved_by, final=screened and question.guard is None)
        if told is None:
            later = True
        elif told.decision != "allow":
            return told
        else:
            allowed.append(told)
    if later:
        return None
    own = allowed[0]
    routes = [frozenset(standing.route) for standing in allowed if standing.route is not None]
    return Standing(
        decision="allow",
        rules=own.rules,
        redact=tuple(sorted({name for standing in allowed for name in standing.redact})),
        route=tuple(sorted(frozenset.intersection(*routes))) if routes else None,
        approvals=max(standing.approvals for standing in allowed),
    )


def _together(answers: Sequence[Answer | None], approved_by: int, *, final: bool) -> Standing | None:
    """What several bundles say to one question; None where one of them would speak again, unless this is `final`."""
    given = [answer for answer in answers if answer is not None]
    if len(given) < len(answers):
        return Standing(decision="error")
    if any(answer.verdict is Verdict.DENY for answer in given):
        denials = (answer.rules for answer in given if answer.verdict is Verdict.DENY)
        return Standing(decision="deny", rules=sum(denials, ()))
    obligations = bound(answer.obligations for answer in given)
    enough = obligations.approvals <= approved_by
    if enough and not final and any(answer.verdict is Verdict.LATER for answer in given):
        return None
    return Standing(
        decision="allow" if enough else "approval_required",
        rules=sum((answer.rules for answer in given), ()),
        redact=tuple(sorted(obligations.redact)),
        route=None if obligations.route is None else tuple(sorted(obligations.route)),
        approvals=obligations.approvals,
    )


class _Kind:
    """How many requests, and some of their ids."""

    def __init__(self) -> None:
        self.count = 0
        self.requests: list[str] = []

    def add(self, request_id: str) -> None:
        self.count += 1
        if len(self.requests) < EXAMPLES:
            self.requests.append(request_id)

    def take(self, other: "_Kind") -> None:
        self.count += other.count
        self.requests += other.requests[: EXAMPLES - len(self.requests)]

    def doubt(self) -> Doubt:
        return Doubt(count=self.count, requests=tuple(self.requests))


class _Outcome:
    """What has been judged so far."""

    def __init__(self, unknown: Mapping[Unknown, _Kind]) -> None:
        self.same = 0
        self.drifted = _Kind()
        self.other_policies = 0
        self._unknown = dict(unknown)
        self._changes: dict[tuple[Standing, Standing], tuple[_Kind, Question]] = {}

    def unknown(self, reason: Unknown, kind: _Kind) -> None:
        self._unknown.setdefault(reason, _Kind()).take(kind)

    def compared(self, before: Standing, after: Standing, kind: _Kind, question: Question) -> None:
        if _result(before, after) is None:
            self.same += kind.count
        else:
            self._changes.setdefault((before, after), (_Kind(), question))[0].take(kind)

    def replay(self, traffic: Traffic) -> Replay:
        counted: Counter[str] = Counter()
        turns = []
        for (before, after), (kind, question) in self._changes.items():
            result = _result(before, after)
            assert result is not None
            counted[result] += kind.count
            turn = Turn(
                result=result,
                before=before,
                after=after,
                count=kind.count,
                requests=tuple(kind.requests),
                question=question,
            )
            turns.append(turn)
        turns.sort(key=lambda turn: -turn.count)
        doubts = {reason: kind.doubt() for reason, kind in sorted(self._unknown.items())}
        if traffic.damaged:
            doubts[Unknown.DAMAGED] = Doubt(count=traffic.damaged)
        return Replay(
            decisions=traffic.decisions,
            same=self.same,
            denied=counted["denied"],
            allowed=counted["allowed"],
            otherwise_bound=counted["otherwise_bound"],
            otherwise_refused=counted["otherwise_refused"],
            changes=tuple(turns[:MOST_CHANGES]),
            more_changes=max(0, len(turns) - MOST_CHANGES),
            not_replayable=doubts,
            drifted=self.drifted.doubt(),
            elsewhere=dict(sorted(traffic.elsewhere.items())),
            other_policies=self.other_policies,
        )


def _result(
    before: Standing, after: Standing
) -> Literal["denied", "allowed", "otherwise_bound", "otherwise_refused"] | None:
    """What becomes of a request; None where nothing does. Which policies decide may change without a change."""
    was, would = before.decision == "allow", after.decision == "allow"
    if was != would:
        return "allowed" if would else "denied"
    if not would:
        return None if before.decision == after.decision else "otherwise_refused"
    same = (before.redact, before.route, before.approvals) == (after.redact, after.route, after.approvals)
    return None if same else "otherwise_bound"
