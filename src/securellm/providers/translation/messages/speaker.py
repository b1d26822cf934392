"""Messages, as translation knows them."""

from securellm.core.surfaces import Surface
from securellm.providers.translation.messages.answer import read_answer, write_answer
from securellm.providers.translation.messages.asked import HOLDS, KNOWS, read_ask
from securellm.providers.translation.messages.asking import HINTS, LACKS, write_ask
from securellm.providers.translation.messages.stream import ReadSteps, WriteSteps
from securellm.providers.translation.model import Speaker

MESSAGES = Speaker(
    surface=Surface.MESSAGES,
    read_ask=read_ask,
    write_ask=write_ask,
    read_answer=read_answer,
    write_answer=write_answer,
    read_steps=ReadSteps,
    write_steps=WriteSteps,
    holds=HOLDS,
    knows=KNOWS,
    hints=HINTS,
    lacks=LACKS,
    bounded=True,
)
