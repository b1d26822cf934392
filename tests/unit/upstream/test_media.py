"""The fake's pictures, sounds, moderations, ranks, files and batches, read by the official SDK."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.harness import request
from tests.upstream import CREDENTIALS, FakeUpstream, marked

SOUND = ("voice.wav", b"RIFF" + b"\r\n\x00\xff--" * 400)


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream().in_thread() as running:
        yield running


@pytest.fixture
def client(upstream: FakeUpstream) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=upstream.url(), api_key=CREDENTIALS["openai"], max_retries=0) as made:
        yield made


def billed(upstream: FakeUpstream) -> dict[str, int] | None:
    return upstream.answers()[-1].usage


def rerank(upstream: FakeUpstream, **members: object) -> Any:
    body = {"model": "fake", "query": "olá", "documents": ["um", {"text": "dois"}, "três"], **members}
    return request(upstream.root, "POST", "/compatible/v1/rerank", key=CREDENTIALS["compatible"], body=body)


def test_documents_are_ranked_by_relevance(upstream: FakeUpstream) -> None:
    whole = rerank(upstream, return_documents=True).json()
    scores = [row["relevance_score"] for row in whole["results"]]
    assert scores == sorted(scores, reverse=True)
    assert {row["index"]: row["document"]["text"] for row in whole["results"]} == {0: "um", 1: "dois", 2: "três"}
    assert billed(upstream) == {"input": whole["usage"]["total_tokens"]}
    assert len(rerank(upstream, top_n=1).json()["results"]) == 1
    wrongs: list[dict[str, object]] = [{"documents": []}, {"documents": [1]}, {"top_n": 0}]
    assert [rerank(upstream, **wrong).status for wrong in wrongs] == [400] * 3


def test_a_moderation_costs_nothing(upstream: FakeUpstream, client: openai.OpenAI) -> None:
    assert [row.flagged for row in client.moderations.create(input=["a", "b"]).results] == [False, False]
    found = client.moderations.create(model=marked("omni", flagged=True), input="a").results[0]
    assert (found.flagged, found.categories.violence, found.categories.hate) == (True, True, False)
    assert billed(upstream) is None


def test_pictures_are_sold_by_tokens_or_by_the_piece(upstream: FakeUpstream, client: openai.OpenAI) -> None:
    drawn = client.images.generate(model=marked("gpt-image-1", media_bytes=500, image_input=9), prompt="gato", n=2)
    assert drawn.data is not None
    assert drawn.usage is not None
    assert [len(base64.b64decode(row.b64_json or "")) for row in drawn.data] == [500, 500]
    assert drawn.usage.input_tokens_details.image_tokens == 9
    assert billed(upstream) == {"input": 1, "image_input": 9, "output": drawn.usage.output_tokens}
    linked = client.images.generate(model="dall-e-3", prompt="gato")
    assert linked.data is not None
    assert linked.data[0].url
    assert billed(upstream) == {"images": 1}
    with pytest.raises(openai.BadRequestError):
        client.images.generate(model="gpt-image-1", prompt="gato", response_format="url")


def test_a_picture_comes_in_halves(upstream: FakeUpstream, client: openai.OpenAI) -> None:
    seen = list(client.images.generate(model="gpt-image-1", prompt="gato", stream=True, partial_images=2))
    assert [event.type.rpartition(".")[2] for event in seen] == ["partial_image", "partial_image", "completed"]
    whole = billed(upstream)
    assert whole is not None
    model = marked("gpt-image-1", cut_event=1, clean_cut=True)
    list(client.images.generate(model=model, prompt="gato", stream=True, partial_images=2))
    cut = billed(upstream)
    assert cut is not None
    assert 0 < cut["output"] < whole["output"]


def test_several_pictures_come_one_after_the_other_each_with_its_figures(
    upstream: FakeUpstream, client: openai.OpenAI
) -> None:
    seen: Any = list(client.images.generate(model="gpt-image-2", prompt="gato", stream=True, partial_images=1, n=2))
    assert [event.type.rpartition(".")[2] for event in seen] == ["partial_image", "completed"] * 2
    assert [(event.usage.input_tokens, event.usage.output_tokens) for event in seen[1::2]] == [(1, 272), (0, 272)]
    assert billed(upstream) == {"input": 1, "output": 544}


def test_pictures_are_edited_as_files_of_a_form(upstream: FakeUpstream, client: openai.OpenAI) -> None:
    picture = ("a.png", b"PNG", "image/png")
    edited = client.images.edit(model="gpt-image-2", image=[picture, picture], mask=picture, prompt="gato", n=2)
    assert edited.data is not None
    assert len(edited.data) == 2
    assert billed(upstream) == {"input": 1, "image_input": 180, "output": 544}
    seen = list(client.images.edit(model="gpt-image-2", image=picture, prompt="gato", stream=True))
    assert [event.type for event in seen] == ["image_edit.completed"]
    for wrong in (("a.txt", b"x", "text/plain"), ("a", b"x")):
        with pytest.raises(openai.BadRequestError):
            client.images.edit(model="gpt-image-2", image=wrong, prompt="gato")


def test_speech_is_bytes_or_events(upstream: FakeUpstream, client: openai.OpenAI) -> None:
    model = marked("fake-tts", media_bytes=1001)
    sound = client.audio.speech.create(model=model, voice="alloy", input="olá")
    assert sound.response.headers["content-type"] == "audio/mpeg"
    assert billed(upstream) == {"input": 1, "audio_output": 62}
    told = client.audio.speech.create(model=model, voice="alloy", input="olá", stream_format="sse").read()
    events = [json.loads(line[6:]) for line in told.split(b"\n\n") if line]
    assert b"".join(base64.b64decode(event["audio"]) for event in events[:-1]) == sound.content
    assert events[-1]["usage"] == {"input_tokens": 1, "output_tokens": 62, "total_tokens": 63}
    client.audio.speech.create(model="tts-1", voice="alloy", input="olá")
    assert billed(upstream) == {"characters": 3}
    cut = client.audio.speech.create(model=marked("f", cut_event=2, clean_cut=True), voice="alloy", input="x")
    assert len(cut.content) == 32


@pytest.mark.parametrize("form", ["json", "verbose_json", "diarized_json", "text", "srt", "vtt"])
def test_sound_is_written_down_in_every_format(upstream: FakeUpstream, client: openai.OpenAI, form: Any) -> None:
    said: Any = client.audio.transcriptions.create(model="fake", file=SOUND, response_format=form)
    assert "Olá! The fake" in (said if isinstance(said, str) else said.text)
    bill = billed(upstream)
    assert bill is not None
    assert set(bill) == {"input", "audio_input", "output"}


def test_sound_is_written_down_word_by_word_or_translated(upstream: FakeUpstream, client: openai.OpenAI) -> None:
    seen: Any = list(client.audio.transcriptions.create(model="fake", file=SOUND, stream=True))
    assert (upstream.requests()[-1].model, upstream.requests()[-1].stream) == ("fake", True)
    assert "".join(event.delta for event in seen[:-1]) == seen[-1].text
    assert seen[-1].usage.output_tokens == sum((billed(upstream) or {}).values()) - seen[-1].usage.input_tokens
    reply = request(
        upstream.root,
        "POST",
        "/openai/v1/audio/translations",
        key=CREDENTIALS["openai"],
        headers={"content-type": "multipart/form-data; boundary=b"},
        body=b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--b--\r\n',
    )
    assert reply.json()["text"]
    assert billed(upstream) == {"seconds": 1}


@pytest.mark.parametrize("broken", [b"", b"--b\r\n", b"--b\r\nX: y\r\n\r\nz\r\n--b--", b"x--b--", b"--b--"])
def test_a_broken_form_is_refused(upstream: FakeUpstream, broken: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    path, key = "/openai/v1/audio/transcriptions", CREDENTIALS["openai"]
    assert request(upstream.root, "POST", path, key=key, headers=headers, body=broken).status == 400


def test_files_are_kept_byte_for_byte(client: openai.OpenAI) -> None:
    file = client.files.create(file=SOUND, purpose="user_data")
    assert (file.bytes, file.filename) == (len(SOUND[1]), "voice.wav")
    assert client.files.content(file.id).read() == SOUND[1]
    assert file.id in [each.id for each in client.files.list(purpose="user_data")]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_a_batch_is_answered_when_somebody_looks(upstream: FakeUpstream, client: openai.OpenAI) -> None:
    said = [{"role": "user", "content": "olá"}]
    lines = [
        json.dumps(
            {
                "custom_id": name,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": model, "messages": said},
            }
        )
        for name, model in (("a", "fake"), ("b", marked("fake", status=429)), ("c", "fake"))
    ]
    source = client.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    made = client.batches.create(input_file_id=source.id, endpoint="/v1/chat/completions", completion_window="24h")
    seen = [client.batches.retrieve(made.id) for _ in range(2)]
    assert [made.status, *(each.status for each in seen)] == ["validating", "in_progress", "completed"]
    bill = billed(upstream)
    assert bill is not None
    assert bill["output"] == 28
    done = seen[-1]
    answered = client.files.content(str(done.output_file_id)).read().splitlines()
    failed = client.files.content(str(done.error_file_id)).read().splitlines()
    assert [json.loads(line)["custom_id"] for line in answered] == ["a", "c"]
    assert [json.loads(line)["response"]["status_code"] for line in failed] == [429]
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(made.id)
    assert made.id in [each.id for each in client.batches.list()]


def test_a_batch_that_makes_no_sense_fails(client: openai.OpenAI) -> None:
    source = client.files.create(file=("in.jsonl", b"{\n{}"), purpose="batch")
    made = client.batches.create(input_file_id=source.id, endpoint="/v1/responses", completion_window="24h")
    failed = client.batches.retrieve(made.id)
    assert failed.status == "failed"
    assert failed.errors is not None
    assert [problem.line for problem in failed.errors.data or ()] == [1, 2]
    stopped = client.batches.create(input_file_id=source.id, endpoint="/v1/responses", completion_window="24h")
    assert client.batches.cancel(stopped.id).status == "cancelling"
    assert client.batches.retrieve(stopped.id).status == "cancelled"
