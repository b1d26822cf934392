"""OpenAI's audio: speech out of text as bytes or events, text out of speech in every format."""

import base64
from collections.abc import Sequence

from tests.upstream.answer import Answer, Ask, Framing, Stream, check, need
from tests.upstream.faces import Refused
from tests.upstream.speech import SENTENCE, media, tokens, write

_SOUNDS = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm;rate=24000;channels=1",
}
_FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
_KINDS = {"text": "text/plain; charset=utf-8", "srt": "text/plain; charset=utf-8", "vtt": "text/vtt; charset=utf-8"}
_PIECES = 4


def speech(ask: Ask) -> Answer:
    """Say a text: so many bytes, chunk by chunk, or as events."""
    body, how = ask.body, ask.behaviour
    said = need(body, "input", str)
    need(body, "model", str)
    need(body, "voice", (str, dict))
    if not 0 < len(said) <= 4096:
        raise Refused(400, "Invalid 'input': string too long or empty.", param="input", code="string_above_max_length")
    form = body.get("response_format") or "mp3"
    speed = check(body, "speed", (int, float)) or 1
    if form not in _SOUNDS or not 0.25 <= speed <= 4:
        raise Refused(400, "Invalid value for 'response_format' or 'speed'.", code="invalid_value")
    style = body.get("stream_format") or "audio"
    by_character = "tts-1" in ask.model
    if style not in ("audio", "sse") or (style == "sse" and by_character):
        raise Refused(400, f"Unsupported value for 'stream_format': '{style}'.", param="stream_format")
    entered = how.input_tokens if how.input_tokens is not None else tokens(said)
    spoken = how.audio_output or max(1, how.media_bytes // 16)
    bill = {"characters": len(said)} if by_character else {"input": entered, "audio_output": spoken}
    sound = media(_SOUNDS[form], how.media_bytes)
    size = max(1, -(-len(sound) // _PIECES))
    pieces = [sound[at : at + size] for at in range(0, len(sound), size)]
    error = {"type": "server_error", "code": how.code, "message": how.message or "An error occurred.", "param": None}
    if style == "audio":
        raw = Stream(how, framing=Framing(media=_SOUNDS[form], event=_bare, alive=b""))
        for piece in pieces:
            raw.raw(piece)
        return raw.answer(bill, error={"error": error})
    events = Stream(how)
    for at, piece in enumerate(pieces):
        if how.unknown_event and at == 1:
            events.add({"type": "speech.audio.future", "future": {"kept": True}})
        events.add({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
    if not how.no_done:
        usage = {"input_tokens": entered, "output_tokens": spoken, "total_tokens": entered + spoken}
        done = {"type": "speech.audio.done"} | ({} if how.usage == "none" else {"usage": usage})
        events.add(done, last=True)
    return events.answer(bill, error={"type": "error", "error": error})


def transcribe(ask: Ask) -> Answer:
    """Write down what a file says, in its language."""
    return _heard(ask, task="transcribe")


def translate(ask: Ask) -> Answer:
    """Write down in English what a file says."""
    return _heard(ask, task="translate")


def _bare(data: bytes, name: str | None, eol: bytes) -> bytes:
    return data


def _heard(ask: Ask, *, task: str) -> Answer:
    how, form = ask.behaviour, ask.form
    if "file" not in form.files or not form.get("model"):
        missing = "model" if "file" in form.files else "file"
        raise Refused(400, f"Missing required parameter: '{missing}'.", param=missing)
    _, content = form.files["file"]
    if not content:
        raise Refused(400, "Audio file might be corrupted or unsupported", param="file", code="invalid_value")
    shape = form.get("response_format") or "json"
    if shape not in _FORMATS or ("gpt-4o" in ask.model and shape not in ("json", "text")):
        message = f"response_format '{shape}' is not compatible with model '{ask.model}'."
        raise Refused(400, message, param="response_format", code="unsupported_value")
    pieces = how.reply or SENTENCE
    text = "".join(pieces)
    seconds = max(1, len(content) // 16_000)
    whisper = "whisper" in ask.model or task == "translate"
    heard = how.audio_input or max(1, len(content) // 100)
    prompted = tokens(form.get("prompt") or "")
    written = how.output_tokens if how.output_tokens is not None else sum(map(tokens, pieces))
    usage: dict[str, object] = {"type": "duration", "seconds": seconds}
    bill = {"seconds": seconds}
    if not whisper:
        usage = {
            "type": "tokens",
            "total_tokens": prompted + heard + written,
            "input_tokens": prompted + heard,
            "input_token_details": {"text_tokens": prompted, "audio_tokens": heard},
            "output_tokens": written,
        }
        bill = {"input": prompted, "audio_input": heard, "output": written}
    shown = {} if how.usage == "none" else {"usage": usage}
    likely = "logprobs" in form.all("include[]")
    if form.get("stream") == "true" and not whisper and task == "transcribe":
        events = Stream(how)
        for at, piece in enumerate(pieces):
            if how.unknown_event and at == 1:
                events.add({"type": "transcript.text.future", "future": {"kept": True}})
            beside = {"logprobs": _logprobs([piece])} if likely else {}
            events.add({"type": "transcript.text.delta", "delta": piece, **beside}, billed=tokens(piece))
        events.billed = written
        if not how.no_done:
            beside = {"logprobs": _logprobs(pieces)} if likely else {}
            events.add({"type": "transcript.text.done", "text": text, **beside, **shown}, last=True)
        error = {"type": "server_error", "code": how.code, "message": how.message or "An error occurred."}
        return events.answer(bill, error={"type": "error", "error": error})
    # What a test says piece by piece is heard sentence by sentence.
    spoken = pieces if how.reply is not None else (text,)
    if shape in ("json", "verbose_json", "diarized_json"):
        whole: dict[str, object] = {"text": text, **({} if task == "translate" else shown)}
        if likely:
            whole["logprobs"] = _logprobs(pieces)
        if shape != "json":
            whole |= {"task": task, "duration": float(seconds)}
            whole["segments"] = [_segment(at, piece, form=shape) for at, piece in enumerate(spoken)]
        if shape == "verbose_json":
            whole["language"] = "portuguese"
            if "word" in form.all("timestamp_granularities[]"):
                words = text.split()
                whole["words"] = [{"word": word, "start": at / 4, "end": (at + 1) / 4} for at, word in enumerate(words)]
        return Answer(body=write(whole), bill=bill)
    mark = {"srt": ",", "vtt": "."}.get(shape, "")
    cues = [
        f"00:00:{at:02d}{mark}000 --> 00:00:{at + 1:02d}{mark}000\n{piece.strip()}\n" for at, piece in enumerate(spoken)
    ]
    plain = {
        "text": f"{text}\n",
        "srt": "\n".join(f"{at}\n{cue}" for at, cue in enumerate(cues, 1)) + "\n",
        "vtt": "WEBVTT\n\n" + "\n".join(cues) + "\n",
    }[shape]
    return Answer(headers=(("content-type", _KINDS[shape]),), body=plain.encode(), bill=bill)


def _segment(at: int, piece: str, *, form: str) -> dict[str, object]:
    times = {"start": float(at), "end": float(at + 1), "text": piece}
    if form == "diarized_json":
        return {"type": "transcript.text.segment", "id": f"seg_{at}", "speaker": "A", **times}
    figures = {"temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.0, "no_speech_prob": 0.01}
    return {"id": at, "seek": 0, **times, "tokens": list(piece.encode()), **figures}


def _logprobs(pieces: Sequence[str]) -> list[dict[str, object]]:
    return [{"token": piece, "logprob": -0.25, "bytes": list(piece.encode())} for piece in pieces]
