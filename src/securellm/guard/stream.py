"""Screen a reply while it arrives, releasing at every moment exactly what screening the whole would leave.

What could still become part of a match is held back; what cannot is final at once. In prose that is the current
word or number.
"""

from bisect import bisect_right
from collections.abc import Sequence

from securellm.core.errors import Code
from securellm.guard import detectors
from securellm.guard.model import Blocked, Direction, Finding, GuardMode, Verdict
from securellm.guard.rules import Merger, Sighting, order, verdict
from securellm.guard.views import LETTER, LEVELS, Quotes, View, views_of

_CUT = LETTER.encode("ascii")


class _Channel:
    """One text of the reply. Offsets are absolute; inside `push` they count from `_base`, where `_text` begins."""

    def __init__(self, mode: GuardMode, index: int, *, arguments: bool, redact: frozenset[str]) -> None:
        self.settled = 0
        self.blocked = False
        self.merger = Merger(mode, Direction.REPLY, index, redact=redact)
        self._quotes = Quotes() if arguments else None
        self._base = 0
        self._text = ""
        self._runs: frozenset[tuple[int, bytes]] = frozenset()
        """Secrets that go on: the level they were found at, and the class of what still belongs to them."""

    @property
    def received(self) -> int:
        return self._base + len(self._text)

    def push(self, text: str, *, final: bool = False) -> None:
        self._text += text
        length = len(self._text)
        views, decoded, boundaries = views_of(self._text, arguments=self._quotes is not None, final=final)
        before = self.settled - self._base
        if final:
            settled = length
        else:
            live = min([view.origin(detectors.live_from(view.data), length) for view in views])
            settled = max(before, min(decoded, live))
        self._find(views, before, settled)
        if self._quotes is not None:
            self._quotes.inside(self._text, self._base, self._base + settled)
        blocking = [region.start for region in self.merger.regions if region.severity == Verdict.BLOCK.severity]
        self.blocked = bool(blocking)
        self.settled = min(self._base + settled, *blocking) if blocking else self._base + settled
        self._forget_before(settled, views, boundaries)

    def _find(self, views: Sequence[View], before: int, settled: int) -> None:
        """Take in every sighting that begins in the range that settles now."""
        runs: set[tuple[int, bytes]] = set()
        sightings: list[Sighting] = []
        for number, view in enumerate(views):
            # The text before the cut is unknown: nothing may be taken to begin at it.
            data = _CUT + view.data[1:] if self._base and view.data else view.data
            # Where nothing is escaped, the last view stands for the deeper ones too.
            levels = range(number, number + 1 if number < len(views) - 1 else LEVELS + 1)
            for follow in {follow for level, follow in self._runs if level in levels}:
                at = view.index_of(before)
                end = detectors.extend(data, at, follow)
                if end > at:
                    self.merger.stretch(self._base + view.span(at, end)[1])
                if end == len(data):
                    runs.update((level, follow) for level in levels)
            for candidate in detectors.find(data):
                start, end = view.span(candidate.start, candidate.end)
                if before <= start < settled:
                    sightings.append(Sighting.of(candidate, self._base + start, self._base + end))
                    if candidate.follow and candidate.end == len(data):
                        runs.update((level, candidate.follow) for level in levels)
        self._runs = frozenset(runs)
        for sighting in sorted(sightings, key=order):
            quotes = self._quotes
            quoted = quotes is not None and not quotes.inside(self._text, self._base, sighting.start)
            self.merger.add(sighting, quoted=quoted)

    def _forget_before(self, settled: int, views: Sequence[View], boundaries: Sequence[int] | None) -> None:
        context = [view.index_of(settled) - detectors.CONTEXT for view in views]
        if min(context) <= 0:
            return
        cut = min([view.origin(at, len(self._text)) for view, at in zip(views, context, strict=True)])
        if boundaries is not None:
            known = bisect_right(boundaries, cut)
            cut = boundaries[known - 1] if known else 0
        if cut > 0:
            self._text = self._text[cut:]
            self._base += cut


class StreamScreen:
    """Screening of one reply that arrives in pieces, on any number of channels (one text each).

    Feed it with `push`, release what `settled` allows with the `cuts` made, and end it with `finish`.
    """

    def __init__(self, mode: GuardMode, *, decision_id: str, redact: frozenset[str] = frozenset()) -> None:
        """Types in `redact` are cut out whatever the mode does with them, if it screens at all."""
        self._mode = mode
        self._redact = redact
        self._decision_id = decision_id
        self._channels: dict[str, _Channel] = {}
        self._lengths: dict[str, int] = {}
        self._blocked = False

    def push(self, channel: str, text: str, *, arguments: bool = False) -> None:
        """Add text to a channel; `arguments` (of its first piece) says that it is the JSON of a tool call.

        Raises Blocked when the reply must not go on; nothing then settles any more.
        """
        self._lengths[channel] = self._lengths.get(channel, 0) + len(text)
        if self._mode is GuardMode.OFF:
            return
        state = self._channels.get(channel)
        if state is None:
            state = self._channels[channel] = _Channel(
                self._mode, len(self._channels), arguments=arguments, redact=self._redact
            )
        if not self._blocked:
            state.push(text)
            self._blocked = state.blocked
        self._refuse_blocked()

    def close(self, channel: str) -> None:
        """The channel's text is complete: nothing of it needs to be held back any more. Raises Blocked."""
        state = self._channels.get(channel)
        if state is not None:
            state.push("", final=True)
            self._refuse_blocked()

    def finish(self) -> None:
        """Make everything final. Raises Blocked when the reply must not be completed."""
        self._refuse_blocked()
        for state in self._channels.values():
            state.push("", final=True)
            self._blocked = self._blocked or state.blocked
        self._refuse_blocked()

    def settled(self, channel: str) -> int:
        """Up to which character, counted from the channel's start, its text is final."""
        observed = self._mode is GuardMode.OBSERVE and not self._redact
        if self._mode is GuardMode.OFF or observed or channel not in self._channels:
            return self._lengths.get(channel, 0)
        return self._channels[channel].settled

    def cuts(self, channel: str, start: int, end: int) -> tuple[tuple[int, int, str], ...]:
        """What to replace in the settled range [start, end): sorted ranges clipped to it, and what stands there now.

        Of a range that spans several pieces, the piece where it begins carries the replacement, the others "".
        """
        if channel not in self._channels or start >= end:
            return ()
        regions = self._channels[channel].merger.regions
        if not regions:
            return ()
        return tuple(
            (max(start, region.start), min(end, region.end), region.text if region.start >= start else "")
            for region in regions
            if region.severity and region.start < end and region.end > start
        )

    def forget(self, channel: str, upto: int) -> None:
        """Promise never to ask for cuts before `upto` again."""
        state = self._channels.get(channel)
        if state is not None and len(state.merger.regions) > 1:
            *regions, last = state.merger.regions
            state.merger.regions[:] = [*(region for region in regions if region.end > upto), last]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far, channel by channel in the order they opened; a finding's leaf is its channel."""
        return tuple(finding for state in self._channels.values() for finding in state.merger.findings)

    @property
    def verdict(self) -> Verdict:
        return verdict(self.findings)

    def _refuse_blocked(self) -> None:
        if self._blocked:
            raise Blocked(Code.REPLY_BLOCKED, self.findings, decision_id=self._decision_id)
