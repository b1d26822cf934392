"""Responses, as translation knows them."""

from securellm.core.surfaces import Surface
from securellm.providers.translation.model import Speaker
from securellm.providers.translation.responses.answer import read_answer, write_answer
from securellm.providers.translation.responses.asked import read_ask
from securellm.providers.translation.responses.asking import HINTS, LACKS, write_ask
from securellm.providers.translation.responses.documented import HOLDS, KNOWS
from securellm.providers.translation.responses.reading import ReadSteps
from securellm.providers.translation.responses.telling import WriteSteps

RESPONSES = Speaker(
    surface=Surface.RESPONSES,
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
)
