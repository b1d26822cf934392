"""The proof that goes with a tool call, carried in a thought without words: clients send those back as they were.

A `tool_use` block has no place for it. The thought stands right before the call.
"""

import msgspec

from securellm.core.document import Value
from securellm.providers.translation.model import Part, Reasoning, ToolCall

_MARK = "SLB1CALL"


def proof_block(signature: str) -> dict[str, Value]:
    """The thought that carries a tool call's signature."""
    return {"type": "thinking", "thinking": "", "signature": f"{_MARK}{signature}"}


def rejoined(parts: list[Part]) -> tuple[Part, ...]:
    """The parts with each proof given back to the call it came with. A proof without its call is left out."""
    found: list[Part] = []
    proof: str | None = None
    for part in parts:
        if isinstance(part, Reasoning) and not part.text and (part.signature or "").startswith(_MARK):
            proof = (part.signature or "").removeprefix(_MARK)
            continue
        if isinstance(part, ToolCall) and proof is not None:
            found.append(msgspec.structs.replace(part, signature=proof))
        else:
            found.append(part)
        proof = None
    return tuple(found)
