"""Token usage in disjoint buckets: a token is counted in exactly one of them."""

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one call consumed. Every figure is a count of tokens; no token stands in two buckets.

    Providers disagree on what "input" includes (OpenAI counts cached tokens inside prompt_tokens, Anthropic
    counts them beside input_tokens), so each provider's figures are taken apart into these.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    image_input: int = 0

    @property
    def prompt_tokens(self) -> int:
        """All tokens that went in."""
        return (
            self.input
            + self.cache_read
            + self.cache_write_5m
            + self.cache_write_1h
            + self.audio_input
            + self.image_input
        )

    @property
    def completion_tokens(self) -> int:
        """All tokens that came out, reasoning included."""
        return self.output + self.reasoning + self.audio_output

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def merge(self, later: "Usage") -> "Usage":
        """Last cumulative figure wins, bucket by bucket; a later report that leaves a bucket out keeps it."""
        return Usage(**{name: getattr(later, name) or getattr(self, name) for name in self.__struct_fields__})
