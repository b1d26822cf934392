"""Every dialect, by its surface."""

from securellm.core.surfaces import Surface
from securellm.providers.dialects.chat import CHAT
from securellm.providers.dialects.embeddings import EMBEDDINGS
from securellm.providers.dialects.messages import MESSAGES
from securellm.providers.dialects.responses import RESPONSES
from securellm.providers.model import Dialect

DIALECTS: dict[Surface, Dialect] = {row.surface: row for row in (CHAT, RESPONSES, MESSAGES, EMBEDDINGS)}
