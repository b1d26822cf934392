"""A stream on its way from provider to client: whole events, screened, and held from the finish until it is paid."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from securellm.core.document import Patch
from securellm.core.errors import Code, GatewayError, UpstreamFailure
from securellm.core.messages import Leaf, Role
from securellm.gateway.echoes import Echoes
from securellm.gateway.lossless import blank, redact
from securellm.guard import Screening, StreamScreen
from securellm.providers import EventView, Fragment, SseEvent, SseParser, StreamReader, rewrite, without_notes

MAX_HELD = 32 * 1024 * 1024
"""Bytes of events held at once: more than any reply a client could want held back."""

ScreenWhole = Callable[[Sequence[Leaf]], Awaitable[Screening]]


class _Held:
    """An event that has not left yet."""

    __slots__ = ("event", "pieces", "screening", "view", "whole")

    def __init__(self, event: SseEvent, view: EventView) -> None:
        self.event = event
        self.view = view
        self.pieces: list[tuple[Fragment, int, int]] = []
        """Fragments that continue a channel, with their place in its text."""
        self.whole: list[Leaf] = []
        self.screening: Screening | None = None


class StreamRelay:
    """Fed the provider's bytes, gives the bytes the client may have.

    With nothing found, events leave exactly as they came, never split or merged. From the first event that
    carries a finish reason everything stays until `rest`, which the story asks for once the outcome is durable.
    """

    def __init__(
        self,
        *,
        reader: StreamReader,
        screen: StreamScreen,
        screen_whole: ScreenWhole,
        echoes: Echoes,
        upstream_model: str,
        model: str,
    ) -> None:
        self._parser = SseParser()
        self._reader = reader
        self._screen = screen
        self._screen_whole = screen_whole
        self._echoes = echoes
        self._upstream_model = upstream_model
        self._model = model
        self._held: deque[_Held] = deque()
        self._held_bytes = 0
        self._lengths: dict[str, int] = {}
        self._finishing = False
        self.redacted = False
        self.failure: GatewayError | None = None
        """Why the stream cannot go on: the provider's failure or the guard's refusal."""
        self.sequence = -1
        """The last `sequence_number` that left, for the dialect that counts its events."""
        self.output_bytes = 0
        """UTF-8 bytes of text relayed so far: an upper bound of the tokens in it."""

    @property
    def terminal(self) -> bool:
        return self._reader.terminal

    async def feed(self, data: bytes) -> bytes:
        """The events that may leave now, in one piece; those before a `failure` too."""
        try:
            for event in self._parser.feed(data):
                if self.terminal:
                    break  # What follows the end is no part of the answer, however it was cut into pieces.
                await self._take(event)
        except GatewayError as error:
            self.failure = error
        return self._release(everything=False)

    async def end(self) -> None:
        """The provider's side has ended. Raises UpstreamFailure(TRUNCATED) when its terminal event never came."""
        for event in self._parser.end():
            await self._take(event)
        if self._parser.pending.strip():
            raise UpstreamFailure(Code.TRUNCATED, "the provider's stream ends inside an event")
        failure = self._reader.eof()
        if failure is not None:
            raise failure

    def rest(self) -> bytes:
        """Everything still held, the terminal event last. The outcome must be durable before this is asked."""
        self._screen.finish()
        return self._release(everything=True)

    def settle_text(self) -> None:
        """All text has been seen: what is held can be decided. May raise the guard's refusal."""
        self._screen.finish()

    async def _take(self, event: SseEvent) -> None:
        self._echoes.refuse_in(event.data, carrier=event.raw)
        view = self._reader.read(event)
        if view.failure is not None:
            raise view.failure
        if view.drop:
            return
        held = _Held(event, view)
        for fragment in view.fragments:
            if fragment.channel:
                start = self._lengths.get(fragment.channel, 0)
                end = start + len(fragment.text)
                self._lengths[fragment.channel] = end
                self._echoes.push(fragment.channel, fragment.text)
                self._screen.push(fragment.channel, fragment.text, arguments=fragment.arguments)
                held.pieces.append((fragment, start, end))
                self.output_bytes += len(fragment.text.encode("utf-8", "replace"))
            else:
                held.whole.append(Leaf(fragment.path, fragment.text, Role.ASSISTANT, fragment.kind))
        for channel in view.closes:
            self._echoes.close(channel)
            self._screen.close(channel)
        if held.whole:
            held.screening = await self._screen_whole(held.whole)
        self._held.append(held)
        self._held_bytes += len(event.raw)
        if self._held_bytes > MAX_HELD:
            raise UpstreamFailure(Code.REPLY_TOO_LARGE, f"more than {MAX_HELD} bytes of the stream are held back")

    def _release(self, *, everything: bool) -> bytes:
        parts: list[bytes] = []
        while self._held:
            held = self._held[0]
            if held.view.finish is not None or held.view.terminal:
                self._finishing = True
            if not everything and (self._finishing or not self._is_settled(held)):
                break
            self._held.popleft()
            self._held_bytes -= len(held.event.raw)
            parts.append(self._render(held))
        return b"".join(parts)

    def _is_settled(self, held: _Held) -> bool:
        return all(
            self._screen.settled(fragment.channel) >= end
            and self._lengths[fragment.channel] - self._echoes.pending(fragment.channel) >= end
            for fragment, _, end in held.pieces
        )

    def _render(self, held: _Held) -> bytes:
        view = held.view
        if view.document is None:
            redacted_notes = held.screening is not None and held.screening.replacements
            self.redacted = self.redacted or bool(redacted_notes)
            return without_notes(held.event) if redacted_notes else held.event.raw
        members = view.document.root
        if isinstance(members, dict) and isinstance(number := members.get("sequence_number"), int):
            self.sequence = number
        patch = Patch(view.document)
        event = held.event
        replaced = False
        for fragment, start, end in held.pieces:
            for cut_start, cut_end, text in self._screen.cuts(fragment.channel, start, end):
                replaced = True
                if not any(mirror.holds(fragment.path) for mirror in view.mirrors):
                    patch.replace_in_string(fragment.path, cut_start - start, cut_end - start, text)
            self._screen.forget(fragment.channel, end)
        notes_found = False
        if held.screening is not None and held.screening.replacements:
            replaced = True
            inside = [r for r in held.screening.replacements if held.whole[r.leaf].path]
            notes_found = len(inside) < len(held.screening.replacements)
            redact(patch, held.whole, inside, view.mirrors)
        if replaced:
            self.redacted = True
            blank(patch, view.mirrors)
        for path in view.removals:
            patch.remove(path)
        if view.model_path is not None and view.model == self._upstream_model != self._model:
            patch.set(view.model_path, self._model)
        raw = rewrite(event, patch.apply()) if patch else event.raw
        return without_notes_of(event, raw) if notes_found else raw


def without_notes_of(event: SseEvent, raw: bytes) -> bytes:
    """`raw`, a rewriting of `event`, without the lines in which something was found."""
    return without_notes(SseEvent(raw=raw, data=event.data, event=event.event, notes=event.notes))
