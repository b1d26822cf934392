"""Generated content, as translation knows it."""

from securellm.core.surfaces import Surface
from securellm.providers.translation.generate_content.answer import read_answer, write_answer
from securellm.providers.translation.generate_content.asked import read_ask
from securellm.providers.translation.generate_content.asking import HINTS, LACKS, write_ask
from securellm.providers.translation.generate_content.documented import HOLDS, KNOWS
from securellm.providers.translation.generate_content.reading import ReadSteps
from securellm.providers.translation.generate_content.telling import WriteSteps
from securellm.providers.translation.model import Speaker

GENERATE_CONTENT = Speaker(
    surface=Surface.GENERATE_CONTENT,
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
