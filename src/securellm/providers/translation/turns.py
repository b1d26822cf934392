"""What turns must be like to mean the same in another dialect."""

from securellm.providers.translation.members import unsayable
from securellm.providers.translation.model import Ask


def refuse_beginning(ask: Ask) -> Ask:
    """The request, unless it ends with what the model said.

    Messages go on with that text, as the beginning of the answer; every other dialect begins a new answer after it.
    """
    if ask.turns and ask.turns[-1].role == "assistant":
        raise unsayable("a request that ends with the model's own turn", name="turns")
    return ask
