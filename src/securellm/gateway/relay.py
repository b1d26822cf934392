"""A stream on its way from provider to client: whole events, screened, and held from the finish until it is paid."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from securellm.core.document import Document, Patch
from securellm.core.errors import Code, GatewayError, UpstreamFailure
from securellm.core.messages import Leaf, Role
from securellm.gateway.echoes import Echoes
from securellm.gateway.lossless import blank, redact
from securellm.guard import Screening, StreamScreen
from securellm.providers import EventView, Fragment, Framing, StreamEvent, StreamReader, StreamTranslation

MAX_HELD = 32 * 1024 * 1024
"""Bytes of events held at once: more than any reply a client could want held back."""

MAX_REPLY_DEPTH = 128
"""Levels of nesting in what a provider answers."""

ScreenWhole = Callable[[Sequence[Leaf]], Awaitable[Screening]]


class _Held:
    """An event that has not left yet."""

    __slots__ = ("event", "pieces", "screening", "view", "whole")

    def __init__(self, event: StreamEvent, view: EventView) -> None:
        self.event = event
        self.view = view
        self.pieces: list[tuple[Fragment, int, int]] = []
        """Fragments that continue a channel, with their place in its text."""
        self.whole: list[Leaf] = []
        self.screening: Screening | None = None


class StreamRelay:
    """Fed the provider's bytes, gives the bytes the client may have.

    With nothing found, events leave exactly as they came, never split or merged; with a `translation`, what they
    say leaves in the client's dialect. From the first event that carries a finish reason everything stays until
    `rest`, which the story asks for once the outcome is durable.
    """

    def __init__(
        self,
        *,
        reader: StreamReader,
        framing: Framing,
        screen: StreamScreen,
        screen_whole: ScreenWhole,
        echoes: Echoes,
        upstream_model: str,
        model: str,
        translation: StreamTranslation | None = None,
    ) -> None:
        self._framing = framing
        self._parser = framing.parser()
        self._reader = reader
        self._translation = translation
        self._screen = screen
        self._screen_whole = screen_whole
        self._echoes = echoes
        self._upstream_model = upstream_model
        self._model = model
        self._held: deque[_Held] = deque()
        self._held_bytes = 0
        self._lengths: dict[str, int] = {}
        self._unscreened: dict[str, list[Fragment]] = {}
        """What the events of this read continue, by channel."""
        self._finishing = False
        self._rest = b""
        self._sequence = -1
        self.redacted = False
        self.failure: GatewayError | None = None
        """Why the stream cannot go on: the provider's failure or the guard's refusal."""
        self.output_bytes = 0
        """UTF-8 bytes of text relayed so far: an upper bound of the tokens in it."""

    @property
    def terminal(self) -> bool:
        return self._reader.terminal

    @property
    def sequence(self) -> int:
        """The last `sequence_number` that left, for the dialect that counts its events."""
        return self._sequence if self._translation is None else self._translation.sequence

    async def feed(self, data: bytes) -> bytes:
        """The events that may leave now, in one piece; those before a `failure` too."""
        try:
            for event in self._parser.feed(data):
                if self.terminal:
                    break  # What follows the end is no part of the answer, however it was cut into pieces.
                await self._take(event)
        except GatewayError as error:
            self.failure = error
        try:
            self._screen_pieces()
        except GatewayError as error:
            self.failure = error  # All that was read stands before whatever else went wrong.
        released: list[bytes] = []
        try:
            self._release(released, everything=False)
        except GatewayError as error:
            self.failure = self.failure or error
        return b"".join(released)

    async def end(self) -> None:
        """The provider's side has ended. Raises UpstreamFailure(TRUNCATED) when its terminal event never came."""
        for event in self._parser.end():
            await self._take(event)
        self._screen_pieces()
        if self._parser.pending.strip():
            raise UpstreamFailure(Code.TRUNCATED, "the provider's stream ends inside an event")
        failure = self._reader.eof()
        if failure is not None:
            raise failure

    def conclude(self) -> None:
        """All has been seen: what is held is decided and written out. May raise the guard's refusal, or BAD_REPLY."""
        self._screen.finish()
        released: list[bytes] = []
        self._release(released, everything=True)
        if self._translation is not None:
            released.append(self._translation.end())
        self._rest = b"".join(released)

    def rest(self) -> bytes:
        """Everything still held, the terminal event last. The outcome must be durable before this is asked."""
        return self._rest

    async def _take(self, event: StreamEvent) -> None:
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
                self._unscreened.setdefault(fragment.channel, []).append(fragment)
                held.pieces.append((fragment, start, end))
                self.output_bytes += len(fragment.text.encode("utf-8", "replace"))
            else:
                held.whole.append(Leaf(fragment.path, fragment.text, Role.ASSISTANT, fragment.kind))
        if view.closes:
            self._screen_pieces()
        for channel in view.closes:
            self._echoes.close(channel)
            self._screen.close(channel)
        if held.whole:
            held.screening = await self._screen_whole(held.whole)
        self._held.append(held)
        self._held_bytes += len(event.raw)
        if self._held_bytes > MAX_HELD:
            raise UpstreamFailure(Code.REPLY_TOO_LARGE, f"more than {MAX_HELD} bytes of the stream are held back")

    def _screen_pieces(self) -> None:
        """Show the guard what one read has brought, each channel's as one text: it finds the same, at less cost."""
        unscreened, self._unscreened = self._unscreened, {}
        for channel, pieces in unscreened.items():
            text = pieces[0].text if len(pieces) == 1 else "".join([piece.text for piece in pieces])
            self._screen.push(channel, text, arguments=pieces[0].arguments)

    def _release(self, released: list[bytes], *, everything: bool) -> None:
        while self._held:
            held = self._held[0]
            if held.view.finish is not None or held.view.terminal:
                self._finishing = True
            if not everything and (self._finishing or not self._is_settled(held)):
                break
            self._held.popleft()
            self._held_bytes -= len(held.event.raw)
            released.append(self._render(held))

    def _is_settled(self, held: _Held) -> bool:
        for fragment, _, end in held.pieces:
            channel = fragment.channel
            if self._screen.settled(channel) < end or self._lengths[channel] - self._echoes.pending(channel) < end:
                return False
        return True

    def _render(self, held: _Held) -> bytes:
        view, event = held.view, held.event
        if view.document is None:
            if self._translation is not None:
                return b""
            redacted_notes = held.screening is not None and held.screening.replacements
            self.redacted = self.redacted or bool(redacted_notes)
            return self._framing.without_notes(event) if redacted_notes else event.raw
        patch, notes_found = self._redacted(held)
        if self._translation is not None:
            document = Document(patch.apply(), max_depth=MAX_REPLY_DEPTH) if patch else view.document
            return self._translation.feed(document.members())
        members = view.document.root
        if isinstance(members, dict) and isinstance(number := members.get("sequence_number"), int):
            self._sequence = number
        for path in view.removals:
            patch.remove(path)
        if view.model_path is not None and view.model == self._upstream_model != self._model:
            patch.set(view.model_path, self._model)
        raw = self._framing.rewrite(event, patch.apply()) if patch else event.raw
        if notes_found:
            raw = self._framing.without_notes(msgspec.structs.replace(event, raw=raw))
        return raw

    def _redacted(self, held: _Held) -> tuple[Patch, bool]:
        """The guard's replacements in the event's data, and whether one is due in the lines around it."""
        view = held.view
        assert view.document is not None
        patch = Patch(view.document)
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
        # The last event may spell all that was said once more.
        self.redacted = self.redacted or replaced
        if replaced or (self.redacted and view.terminal):
            blank(patch, view.mirrors)
        return patch, notes_found
