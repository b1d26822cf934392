"""Every errand, by its name."""

from securellm.core.surfaces import Surface
from securellm.providers.dialects import batches, conversations, files, message_batches, stored_responses
from securellm.providers.dialects.work import Batching
from securellm.providers.model import Errand

ERRANDS: dict[str, Errand] = {
    row.name: row
    for row in (
        *stored_responses.ERRANDS,
        *conversations.ERRANDS,
        *files.ERRANDS,
        *batches.ERRANDS,
        *message_batches.ERRANDS,
    )
}

BATCHINGS: dict[Surface, Batching] = {
    Surface.BATCHES: batches.BATCHING,
    Surface.MESSAGE_BATCHES: message_batches.BATCHING,
}
"""How batches are read, by the surface that they are asked about on."""
