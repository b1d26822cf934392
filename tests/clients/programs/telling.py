"""What the Python programs of the matrix share: a task comes in, one line of JSON for each scenario goes out.

The programs run in environments of their own and import nothing but their client, the standard library and this.
"""

import json
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = {"forecast": "The weather of the days to come", "climate": "The weather of most years"}
"""Names and descriptions of the functions the model may call; both take a `CITY`."""
RESULT = "25 graus"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
_SECONDS = 25

Scenario = Callable[[], dict[str, Any]]


class Task:
    """Where to go, as whom, and what the models are called; the last three change with the face."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.base: str = given["base"]
        """The gateway's root URL."""
        self.key: str = given["key"]
        self.word: str = given["word"]
        """Names this run; no other request says it."""
        self.lane: str = given["lane"]
        """Which upstream answers."""
        self.command: str = given["command"]
        """The program of a command-line client."""
        self.prompt = f"Qual é a previsão do tempo? ({self.word})"
        self.faces: dict[str, dict[str, Any]] = given["faces"]
        self.poor = ""
        """A key whose tenant has no money left."""
        self.hurried = ""
        """A key whose tenant may ask once in 1.5 s."""
        self.models: dict[str, str] = {}

    @property
    def v1(self) -> str:
        return f"{self.base}/v1"

    def turn_to(self, face: str) -> list[str]:
        """From now on this face is shown; what it has to show."""
        given = self.faces[face]
        self.poor, self.hurried = given["poor"], given["hurried"]
        self.models = {**given["models"], "absent": "no-such-model"}
        wanted: list[str] = given["wanted"]
        return wanted


def read_task() -> Task:
    return Task(json.loads(sys.argv[1]))


def failing(act: Callable[[], object]) -> dict[str, Any]:
    """How the client names the error that `act` must raise; `classes` is empty when it raises none."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 - which class a client raises is what is asked
        return describe(error)
    return {"classes": []}


def describe(error: BaseException) -> dict[str, Any]:
    """The error's classes, and the status and message it carries, whatever its client calls them."""
    status = next(
        (
            value
            for name in ("status_code", "http_status", "status", "code")
            if isinstance(value := getattr(error, name, None), int)
        ),
        None,
    )
    if status is None and error.__cause__ is not None:
        status = describe(error.__cause__)["status"]
    return {"classes": [kind.__name__ for kind in type(error).__mro__], "status": status, "message": str(error)[:500]}


def consume(stream: Iterable[object], seen: list[object]) -> None:
    """Read a stream to its end, or until it raises; `seen` keeps what came."""
    for piece in stream:
        seen.append(piece)  # noqa: PERF402 - what came before an error must be kept


def breaking(begin: Callable[[], Iterable[object]]) -> dict[str, Any]:
    """How a stream that breaks in its middle ends for the client, and how many pieces came before."""
    seen: list[object] = []
    return {**failing(lambda: consume(begin(), seen)), "pieces": len(seen)}


def run(packages: Iterable[str], faces: Mapping[str, object], task: Task) -> None:
    """Tell every wanted scenario: the method of that name of its face."""
    if found := {name: version(name) for name in packages}:
        _say("versions", found)
    for face in task.faces:
        for name in task.turn_to(face):
            scenario: Scenario = getattr(faces[face], name)
            _say(f"{face} {name}", _bounded(scenario))


def say_version(name: str, *command: str) -> None:
    """What a command says of itself: the number in it."""
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    found = re.search(r"\d+\.\d+\.\d+", said)
    _say("versions", {name: found[0] if found else said})


def _bounded(scenario: Scenario) -> dict[str, Any]:
    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"nothing came for {_SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(_SECONDS)
    try:
        return scenario()
    except Exception as error:  # noqa: BLE001 - the other scenarios must still be told
        return {**describe(error), "unexpected": "".join(traceback.format_exception(error))[-1500:]}
    finally:
        signal.alarm(0)


def _say(name: str, told: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps({name: told}, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()
