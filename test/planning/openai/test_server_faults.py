"""What servers of many makers say instead of an answer: each is understood, and the sentence says what to change."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from planning.openai.asking import QUESTION, chat, refused
from planning.openai.http_server import Behaviour, Exchange, Server, completion, says

from stvla_ros.errors import OutcomeCode
from stvla_ros.planning.chat import NotReadyError

SCHEMA = {"type": "object"}
PAGE = "<!DOCTYPE html>\n<html><head><title>{0}</title><style>a {{}}</style></head><body><h1>{0}</h1></body></html>"


def openai(message: str, **more: Any) -> str:
    """As most servers write an error."""
    return json.dumps({"error": {"message": message, **more}})


def fastapi(*at: str, message: str) -> str:
    return json.dumps({"detail": [{"type": "x", "loc": at, "msg": message, "input": {"response_format": "image"}}]})


STRUCTURED = "cannot constrain answers to a JSON schema .*: set planner.openai.structured to false"
NO_IMAGES = "accepts no images with this model .*planner.openai.model"
FEWER = r"fewer images than the two that a plan sends .*--limit-mm-per-prompt '\{\"image\": 2\}'"
CONTEXT = "has no room for the question, its images and 64 tokens .*--max-model-len.*lower planner.openai.max_tokens"
OTHER_FORMAT = "cannot read the images as png .*: set planner.openai.image_format to jpeg"
SMALLER = "rejects the images as too large .*image_format to jpeg, or let the camera send smaller ones"
TOKEN = "refused the token .*: set planner.openai.token_variable to the NAME of the environment variable"
MODEL = "has no model 'qwen' .*: set planner.openai.model to one of its models. It has Qwen/Qwen3-VL, other."
PATH = "has no /v1/chat/completions .*: set planner.openai.base_url to its address up to the version"
CREDIT = "has no credit left"

FINAL = [
    # the schema
    (500, openai("Failed to initialize samplers: failed to parse grammar", code=500), STRUCTURED),  # llama.cpp
    (501, openai("response_format json_schema is not supported"), STRUCTURED),
    (400, openai("'response_format.type' must be 'json_object'"), STRUCTURED),
    (422, fastapi("body", "response_format", message="Extra inputs are not permitted"), STRUCTURED),
    (400, openai("Invalid schema for response_format 'reply'"), STRUCTURED),
    (400, json.dumps({"object": "error", "message": "xgrammar: unsupported keyword minItems"}), STRUCTURED),
    (400, openai("guided_json is not supported by this engine"), STRUCTURED),
    (422, fastapi("body", "messages", message="Field required"), "rejected the question .*set planner.openai.structured"),
    # images
    (400, json.dumps({"object": "error", "message": "At most 1 image(s) may be provided in one request."}), FEWER),  # vLLM
    (400, openai("You set image=2 (or defaulted) in `--limit-mm-per-prompt`"), FEWER),
    (400, openai("Too many images provided. This model supports up to 1 images"), FEWER),  # Groq
    (400, openai("This model only supports one image"), FEWER),
    (500, openai("image input is not supported - hint: you may need to provide the mmproj"), NO_IMAGES),  # llama.cpp
    (400, openai("Qwen/Qwen3-8B is not a multimodal model"), NO_IMAGES),  # vLLM
    (400, openai("At most 0 image(s) may be provided in one prompt."), NO_IMAGES),
    (404, openai("No endpoints found that support image input", code=404), NO_IMAGES),  # OpenRouter
    (400, openai("Invalid content type. image_url is only supported by certain models."), NO_IMAGES),  # OpenAI
    (400, openai("messages[7]: unknown variant `image_url`, expected `text` at line 1"), NO_IMAGES),  # DeepSeek
    (400, openai("'messages.0.content' : value must be a string"), NO_IMAGES),  # Groq
    (422, fastapi("body", "messages", "0", "content", message="Input should be a valid string"), NO_IMAGES),
    (500, openai("this model is missing data required for image input"), NO_IMAGES),  # Ollama
    (400, openai("Model does not support vision"), NO_IMAGES),
    (400, openai("You uploaded an unsupported image. Please make sure your image is valid."), OTHER_FORMAT),  # OpenAI
    (400, openai("Unsupported image format: image/png"), OTHER_FORMAT),
    (500, openai("cannot identify image file <_io.BytesIO object at 0x7f>"), OTHER_FORMAT),  # Pillow
    (400, openai("Failed to load image or audio file"), OTHER_FORMAT),  # llama.cpp
    (400, json.dumps({"error": "'url' field must be a base64 encoded image."}), OTHER_FORMAT),  # LM Studio
    (500, openai("error loading image"), OTHER_FORMAT),
    (400, openai("messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 6 MB"), SMALLER),  # Anthropic
    (400, openai("Image size is too large"), SMALLER),
    # the length
    (400, openai("This model's maximum context length is 4096 tokens, you requested 5000"), CONTEXT),  # vLLM
    (400, openai("the request exceeds the available context size", type="exceed_context_size_error"), CONTEXT),  # llama.cpp
    (400, openai("The input (5000 tokens) is longer than the model's context length (4096 tokens)."), CONTEXT),  # SGLang
    (422, json.dumps({"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"}), CONTEXT),  # TGI
    (400, openai("The decoder prompt (length 5022) is longer than the maximum model length of 4096."), CONTEXT),  # vLLM
    (400, openai("prompt is too long: 210000 tokens > 200000 maximum"), CONTEXT),  # Anthropic
    (400, openai("max_tokens is too large: 99999. This model supports at most 16384 completion tokens"), CONTEXT),
    (413, PAGE.format("413 Request Entity Too Large"), "rejects a question of 1 kB .*image_format to jpeg.*client_max_body_size"),
    # names of settings
    (400, openai("Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."),
     "set planner.openai.token_limit to max_completion_tokens"),  # OpenAI
    (400, openai("Unsupported value: 'temperature' does not support 0 with this model."), "temperature to -1"),
    (422, json.dumps({"error": "Input validation error: `temperature` must be strictly positive"}), "temperature to -1"),
    # the model
    (404, json.dumps({"object": "error", "message": "The model `qwen` does not exist.", "code": 404}), MODEL),  # vLLM
    (404, openai('model "qwen" not found, try pulling it first'), MODEL),  # Ollama
    (400, openai("qwen is not a valid model ID", code=400), MODEL),  # OpenRouter
    (404, openai("No models loaded. Please load a model in the developer page"), MODEL),  # LM Studio
    (400, openai("Invalid model name passed in model=qwen"), MODEL),  # LiteLLM
    (404, openai("models/qwen is not found for API version v1main", status="NOT_FOUND"), MODEL),  # Gemini
    (404, openai("told so"), "has no such model or nothing at /v1/chat/completions .*It has Qwen/Qwen3-VL, other"),
    # the token
    (401, openai("Invalid API Key", type="authentication_error"), TOKEN),
    (400, json.dumps([{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}]), TOKEN),  # Gemini
    (403, openai("told so"), "refuses access with status 403: check that the token may use this model, and set"),
    (402, openai("Insufficient credits"), CREDIT),  # OpenRouter
    (429, openai("You exceeded your current quota", code="insufficient_quota"), CREDIT),  # OpenAI
    # the address
    (405, json.dumps({"detail": "Method Not Allowed"}), "accepts no questions at /v1/chat/completions .*base_url"),
    (400, PAGE.format("400 The plain HTTP request was sent to HTTPS port"), "base_url to https://"),  # nginx
    (400, "Client sent an HTTP request to an HTTPS server.\n", "base_url to https://"),  # Go
    # what only the server knows
    (400, openai("told so"), "rejected the question .*; if it does not support response_format.*It says: 'told so'"),
    (500, "Internal Server Error", "answered with status 500. It says: 'Internal Server Error'"),
    (500, openai("CUDA out of memory"), "too little memory for the question .*It says: 'CUDA out of memory'"),
    (500, json.dumps({"error": "model runner has unexpectedly stopped, this may be due to resource limitations"}),
     "too little memory"),  # Ollama
    (418, "", "answered with status 418.$"),
    (204, "", "answered with status 204.$"),
]  # fmt: skip
"""Status, body, words of the sentence. Asking again would not help."""


def models_or(behaviour: Behaviour) -> Behaviour:
    """A server that also lists its models."""

    def answer(exchange: Exchange) -> None:
        if exchange.line.startswith("GET /v1/models"):
            exchange.send(json.dumps({"data": [{"id": "Qwen/Qwen3-VL"}, {"id": "other"}]}))
        else:
            behaviour(exchange)

    return answer


def questions(server: Server) -> int:
    return sum(asked.line.startswith("POST") for asked in server.asked)


@pytest.mark.parametrize(("status", "body", "words"), FINAL, ids=[f"{s} {b[:60]}" for s, b, _ in FINAL])
def test_what_waiting_does_not_mend_ends_at_once_and_says_what_to_change(status: int, body: str, words: str) -> None:
    with Server([models_or(lambda exchange: exchange.send(body, f"{status} Oh no"))]) as server:
        error = refused(chat(server), schema=SCHEMA)
        assert questions(server) == 1
    assert error.code is OutcomeCode.SERVER_ERROR
    assert not isinstance(error, NotReadyError)
    assert re.search(words, error.sentence), error.sentence


LATER = [
    (503, openai("Loading model", type="unavailable_error", code=503), "is still loading"),  # llama.cpp
    (
        503,
        json.dumps({"error": "Model X is currently loading", "estimated_time": 20.0}),
        "is still loading",
    ),  # Hugging Face
    (503, "no healthy upstream", "is too busy"),  # Envoy
    (503, openai("server busy, please try again. maximum pending requests exceeded"), "is too busy"),  # Ollama
    (429, json.dumps({"error": "Model is overloaded", "error_type": "overloaded"}), "is too busy"),  # TGI
    (429, openai("Rate limit reached for images per minute", code="rate_limit_exceeded"), "is too busy"),
    (529, json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}), "is too busy"),
    (502, PAGE.format("502 Bad Gateway"), "does not answer the proxy in front of it .* It says: '502 Bad Gateway'"),
    (504, PAGE.format("504 Gateway Time-out"), "the proxy in front of it"),
    (522, "error code: 522", "the proxy in front of it"),  # Cloudflare
    (408, "", "is too busy .status 408"),
    (500, openai("The server is overloaded. You can retry your request."), "is too busy .status 500"),  # OpenAI
    (500, openai("Rate limit reached", code="429"), "is too busy .status 429"),  # LiteLLM
]


@pytest.mark.parametrize(("status", "body", "words"), LATER, ids=[f"{s} {b[:40]}" for s, b, _ in LATER])
def test_what_waiting_mends_is_asked_again(status: int, body: str, words: str) -> None:
    def refuses(exchange: Exchange) -> None:
        exchange.send(body, f"{status} Oh no")

    def refuses_for_long(exchange: Exchange) -> None:
        exchange.send(body, f"{status} Oh no", "Retry-After: 3600\r\n")

    with Server([refuses, refuses, says("ok"), refuses_for_long]) as server:
        model = chat(server)
        assert model.reply(QUESTION, 8) == "ok"
        assert questions(server) == 3
        error = refused(model)
        assert questions(server) == 4
    assert isinstance(error, NotReadyError)
    assert (error.code, error.pause_s) == (OutcomeCode.SERVER_ERROR, 3600)
    assert re.search(f"{words}.* It wants a pause of 3600 s", error.sentence), error.sentence


IN_A_200 = [
    ({"error": {"code": 401, "message": "User not found."}}, "refused the token with status 401", 1),  # OpenRouter
    ({"error": {"code": "401", "message": "User not found."}}, "refused the token with status 401", 1),
    ({"error": {"message": "Incorrect API key provided"}}, "refused the token .an error in its answer", 1),
    ({"object": "error", "message": "The model `qwen` does not exist.", "code": 404}, MODEL, 1),  # vLLM
    ({"error": "Unexpected endpoint or method. (POST /v1/chat/completions)"}, PATH, 1),  # LM Studio
    ({"error": {"code": "\u00b2\u2074", "message": "told so"}}, "answered with an error. It says: 'told so'", 1),
    ({"error": "told so"}, "answered with an error. It says: 'told so'", 1),
    ({"detail": "told so"}, "answered with an error. It says: 'told so'", 1),
    ({"detail": [{"loc": ["body", "x"], "msg": "told so"}]}, "answered with an error. It says: 'body; x; told so'", 1),
    ({"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}, TOKEN, 1),  # Cloudflare
    ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}, "choices": None}, "It says: 'login fail'", 1),  # MiniMax
    ({"code": 500, "msg": "told so", "success": False}, "answered with status 500. It says: 'told so'", 1),
    ([{"error": {"code": 400, "message": "told so"}}], "rejected the question .status 400", 1),  # Gemini
    ({"error": {"code": 429, "message": "Rate limit exceeded"}}, "is too busy .status 429", 3),
    ({"choices": None, "error": {"message": "upstream overloaded"}}, "is too busy", 3),
    ({"error": {"message": "Provider returned error", "code": 502, "metadata": {"raw": "no GPU"}}}, "proxy .*'Provider.* no GPU'", 3),
    ({"choices": [{"error": {"code": 503, "message": "told so"}, "finish_reason": "error",
                   "message": {"content": "[(1, 2)"}}]}, "is too busy .status 503", 3),  # OpenRouter, in mid-answer
    ({"choices": [], "error": {"code": 529, "message": "told so"}}, "is too busy .status 529", 3),
    ("upstream connect error or disconnect/reset before headers", "is too busy", 3),  # Envoy
]  # fmt: skip
"""Body, words, how often it is asked before an answer comes."""


@pytest.mark.parametrize(("body", "words", "asked"), IN_A_200, ids=[json.dumps(b)[:60] for b, _, _ in IN_A_200])
def test_errors_with_status_200_are_the_servers(body: Any, words: str, asked: int) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    for_long = "Retry-After: 3600\r\n"
    sends = [models_or(lambda exchange: exchange.send(text))] * (asked - 1)
    sends += [models_or(says("ok"))] * (asked > 1)
    with Server([*sends, models_or(lambda exchange: exchange.send(text, headers=for_long))]) as server:
        model = chat(server)
        if asked > 1:
            assert model.reply(QUESTION, 8) == "ok"
        error = refused(model)
        assert questions(server) == asked + (asked > 1)
    assert error.code is OutcomeCode.SERVER_ERROR
    assert re.search(words, error.sentence), error.sentence


@pytest.mark.parametrize(
    "more",
    [
        {"error": None},
        {"error": {}},
        {"error": False},
        {"error": {"code": 0, "message": ""}},
        {"errors": []},
        {"code": 0, "message": "success"},
        {"detail": None},
    ],
    ids=str,
)
def test_fields_for_errors_that_say_none(more: dict[str, Any]) -> None:
    with Server([lambda exchange: exchange.send(json.dumps(json.loads(completion("ok")) | more))]) as server:
        assert chat(server).reply(QUESTION, 8) == "ok"


WHOLE = completion("ok").encode()
LOST = [
    (b"", "sent an empty answer"),
    (b" \r\n\r\n ", "sent an empty answer"),
    (WHOLE[:-9], "sent JSON that is cut off or damaged"),
    (b'{"choices": []}', "is not a chat completion"),
    (b'{"choices": null}', "is not a chat completion"),
    (b'{"choices": [{}]}', "a completion without a message"),
    (completion("[(1, 2)", "error").encode(), r"broke off \(error\)"),
    (completion("[(1, 2)", "abort").encode(), r"broke off \(abort\)"),  # SGLang, vLLM
    (completion("", "insufficient_system_resource").encode(), "broke off"),  # DeepSeek
]


@pytest.mark.parametrize(("body", "words"), LOST, ids=[str(b[:40]) for b, _ in LOST])
def test_answers_that_were_lost_are_asked_for_again_a_few_times(body: bytes, words: str) -> None:
    with Server([lambda e: e.send(body), lambda e: e.send(body), says("ok")]) as server:
        assert chat(server).reply(QUESTION, 8) == "ok"
    with Server([lambda e: e.send(body)]) as server:
        error = refused(chat(server))
        assert len(server.asked) == 3
    assert error.code is OutcomeCode.SERVER_ERROR
    assert re.search(words, error.sentence), error.sentence


@pytest.mark.parametrize("body", [PAGE.format("Sign in"), "<html><body>Sign in</body></html>"])
def test_a_web_page_is_no_answer(body: str) -> None:
    with Server([lambda exchange: exchange.send(body)]) as server:
        assert "sent a web page, not an API answer: 'Sign in': set base_url" in refused(chat(server)).sentence
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + WHOLE,
        completion("ok").encode("utf-16"),
        b"\r\n \n" * 50 + WHOLE,  # kept alive with white space
        b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n" + WHOLE,
        json.dumps(json.loads(WHOLE), indent=2).encode(),
    ],
)
def test_ways_to_write_a_completion(body: bytes) -> None:
    with Server([lambda exchange: exchange.send(body)]) as server:
        assert chat(server).reply(QUESTION, 8) == "ok"


def test_half_a_pair_of_surrogates_is_no_character() -> None:
    """Servers of models with byte tokens send them; no ROS message takes one."""
    with Server([says("o\ud83d k")]) as server:
        assert chat(server).reply(QUESTION, 8) == "o? k"


ENDS = {
    None: True, "": True, "null": True, "stop": True, "STOP": True, "eos": True, "eos_token": True, "stop_sequence": True,
    "end_turn": True, "COMPLETE": True, "length": False, "max_tokens": False, "MAX_TOKENS": False, "model_length": False,
    "content_filter": False, "SAFETY": False, "tool_calls": False, "function_call": False, "tool_use": False,
    "error": False, "what nobody knows": False, "pause_turn": False, 7: False, True: False,
}  # fmt: skip


@pytest.mark.parametrize(("reason", "whole"), ENDS.items())
def test_only_whole_answers_are_taken(reason: Any, whole: bool) -> None:
    with Server([says("step 1 of 2, finished: no", reason)]) as server:
        if whole:
            assert chat(server).reply(QUESTION, 8) == "step 1 of 2, finished: no"
        else:
            assert re.search(
                "cut off|its filter|call of a tool|broke off|not known to be a whole", refused(chat(server)).sentence
            )


def test_reasons_in_other_forms() -> None:
    missing = json.dumps({"choices": [{"message": {"content": "ok"}}]})
    stopped = completion("ok", {"type": "stop", "matched": 151645})
    cut = completion("ok", {"type": "length", "length": 64})
    with Server([lambda e: e.send(missing), lambda e: e.send(stopped), lambda e: e.send(cut)]) as server:
        model = chat(server)
        assert [model.reply(QUESTION, 8) for _ in range(2)] == ["ok", "ok"]
        assert "cut off at its limit of tokens (raise max_tokens)" in refused(model).sentence


@pytest.mark.parametrize("content", [None, "", "\n\n", []])
@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_thoughts_alone_are_no_answer(key: str, content: Any) -> None:
    thought = {key: "The path is [(1, 2)], so"}
    with Server([says(content, "length", **thought), says(content, "stop", **thought)]) as server:
        model = chat(server)
        cut, whole = refused(model), refused(model)
    assert (cut.code, whole.code) == (OutcomeCode.REPLY_UNPARSABLE, OutcomeCode.REPLY_UNPARSABLE)
    assert "used all its tokens for thoughts: raise max_tokens, or turn thinking off" in cut.sentence
    assert "sent thoughts, no answer: turn thinking off" in whole.sentence
    assert "raise max_tokens" not in whole.sentence


def test_thoughts_beside_an_answer_are_not_in_it() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "x"}]},
        {"type": "text", "text": "ok"},
    ]  # Mistral
    with Server(
        [says("ok", reasoning="x"), says(parts), says([{"type": "reasoning", "text": "x"}, {"text": "ok"}])]
    ) as server:
        model = chat(server)
        assert [model.reply(QUESTION, 8) for _ in range(3)] == ["ok"] * 3


def test_of_several_choices_the_first_is_taken() -> None:
    def choice(index: int, text: str) -> dict[str, Any]:
        return {"index": index, "message": {"content": text}, "finish_reason": "stop"}

    both = json.dumps({"choices": [choice(1, "second"), choice(0, "first")]})
    with Server([lambda exchange: exchange.send(both)]) as server:
        assert chat(server).reply(QUESTION, 8) == "first"


def event(delta: dict[str, Any], reason: Any = None, **more: Any) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': reason}], **more})}\n\n"


PIECES = event({"role": "assistant"}) + event({"content": "o"}) + event({"content": "k"})
STOP, DONE = event({}, "stop"), "data: [DONE]\n\n"
STREAMS = {
    "as it should be": PIECES + STOP + DONE,
    "without its end mark": PIECES + STOP,
    "without a reason": PIECES + DONE,
    "kept alive": f": ping\n\n{PIECES}: OPENROUTER PROCESSING\n\n{STOP}{DONE}",
    "with names and numbers": PIECES.replace("data:", "event: message\nid: 1\ndata:") + STOP + DONE,
    "without blanks": (PIECES + STOP + DONE).replace("data: ", "data:"),
    "with other line ends": (PIECES + STOP + DONE).replace("\n", "\r\n"),
    "without empty lines": (PIECES + STOP + DONE).replace("\n\n", "\n"),
    "with usage at its end": PIECES + STOP + 'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n' + DONE,
    "with thoughts": event({"reasoning_content": "x"}) + event({"reasoning": "x", "content": None}) + PIECES + STOP + DONE,
    "in one piece": f"data: {completion('ok')}\n\n{DONE}",
    "an event of several lines": "data: " + json.dumps(json.loads(WHOLE), indent=1).replace("\n", "\ndata: ") + "\n\n",
    "with another choice": 'data: {"choices": [{"index": 1, "delta": {"content": "x"}}]}\n\n' + PIECES + STOP,
}  # fmt: skip


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS.keys())
def test_streams_that_nobody_asked_for_are_read(stream: str) -> None:
    with Server([lambda exchange: exchange.send(stream)]) as server:
        assert chat(server).reply(QUESTION, 8) == "ok"
        assert server.asked[0].json["stream"] is False


def chunked(exchange: Exchange) -> None:
    exchange.pipe.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for letter in (PIECES + STOP + DONE).encode():
        exchange.pipe.sendall(b"1\r\n" + bytes([letter]) + b"\r\n")
    exchange.pipe.sendall(b"0\r\n\r\n")


def without_last_chunk(exchange: Exchange) -> None:
    stream = (PIECES + STOP + DONE).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    exchange.pipe.sendall(head + b"%x\r\n%s\r\n" % (len(stream), stream))
    exchange.pipe.close()


def until_closed(exchange: Exchange) -> None:
    exchange.pipe.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + (PIECES + STOP).encode())
    exchange.pipe.close()


@pytest.mark.parametrize("behaviour", [chunked, without_last_chunk, until_closed])
def test_streams_on_the_wire(behaviour: Behaviour) -> None:
    with Server([behaviour]) as server:
        assert chat(server).reply(QUESTION, 8) == "ok"


@pytest.mark.parametrize(
    ("stream", "words", "code"),
    [
        (PIECES, "broke off .stream without end", OutcomeCode.SERVER_ERROR),
        (PIECES[:-60], "neither JSON nor a whole stream", OutcomeCode.SERVER_ERROR),
        (PIECES + STOP[:30], "neither JSON nor a whole stream", OutcomeCode.SERVER_ERROR),
        (PIECES + "data: nonsense\n\n" + STOP, "neither JSON nor a whole stream", OutcomeCode.SERVER_ERROR),
        (": ping\n\n", "neither JSON nor a whole stream", OutcomeCode.SERVER_ERROR),
        (PIECES + event({}, "length"), "cut off at its limit", OutcomeCode.REPLY_UNPARSABLE),
        (PIECES + 'data: {"error": {"code": 401, "message": "no"}}\n\n', "refused the token", OutcomeCode.SERVER_ERROR),
        (PIECES + 'event: error\ndata: {"message": "told so"}\n\n', "It says: 'told so'", OutcomeCode.SERVER_ERROR),
        (event({"reasoning": "x"}) + STOP, "sent thoughts, no answer", OutcomeCode.REPLY_UNPARSABLE),
        (event({}) + STOP, "without text", OutcomeCode.REPLY_UNPARSABLE),
    ],
)
def test_streams_without_a_whole_answer(stream: str, words: str, code: OutcomeCode) -> None:
    with Server([lambda exchange: exchange.send(stream)]) as server:
        error = refused(chat(server))
    assert error.code is code
    assert re.search(words, error.sentence), error.sentence


def test_a_server_that_only_streams_is_asked_for_a_stream() -> None:
    """As DashScope has it for models that think."""
    only = openai("This model only support stream mode, please enable the stream parameter to access the model.")

    def answers(exchange: Exchange) -> None:
        exchange.send(PIECES + STOP + DONE) if exchange.json["stream"] else exchange.send(only, "400 Bad Request")

    with Server([answers]) as server:
        model = chat(server)
        assert [model.reply(QUESTION, 8) for _ in range(2)] == ["ok", "ok"]
        assert [asked.json["stream"] for asked in server.asked] == [False, True, True]
    with Server([lambda exchange: exchange.send(only, "400 Bad Request")]) as server:
        assert "rejected the question" in refused(chat(server)).sentence
        assert len(server.asked) == 2


@pytest.mark.parametrize("end", ["", "/", "//", "/chat/completions", "/chat/completions/", "  "])
def test_address_as_people_write_it(end: str) -> None:
    with Server([says("ok")]) as server:
        assert chat(server, base_url=server.url + end).reply(QUESTION, 8) == "ok"
        assert server.asked[0].line == "POST /v1/chat/completions HTTP/1.1"


def not_below(path: str) -> Behaviour:
    """A server that has its API below this path only."""

    def answer(exchange: Exchange) -> None:
        at = exchange.line.split()[1]
        known = {f"{path}/models": '{"data": [{"id": "qwen"}]}', f"{path}/chat/completions": completion("ok")}
        exchange.send(known[at]) if at in known else exchange.send('{"detail":"Not Found"}', "404 Not Found")

    return answer


@pytest.mark.parametrize(
    ("path", "given", "words"),
    [
        ("/v1", "", "has no /chat/completions .*There are models at http://127.0.0.1:PORT/v1."),
        ("/v1", "/api", "has no /api/chat/completions .*There are models at http://127.0.0.1:PORT/v1."),
        ("/api/v1", "/api", "There are models at http://127.0.0.1:PORT/api/v1."),
        (
            "/openai",
            "/v1",
            "has no /v1/chat/completions .status 404.: set planner.openai.base_url .*It says: 'Not Found'",
        ),
    ],
)
def test_address_of_something_else(path: str, given: str, words: str) -> None:
    with Server([not_below(path)]) as server:
        base = server.url.removesuffix("/v1")
        error = refused(chat(server, base_url=base + given))
        assert re.search(words.replace("PORT", str(server.port)), error.sentence), error.sentence
        assert chat(server, base_url=base + path).reply(QUESTION, 8) == "ok"


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://HOST/v1/chat/completions", "(status 308): set planner.openai.base_url to https://HOST/v1."),
        ("/api/v1/chat/completions", "(status 308): set planner.openai.base_url to http://HOST/api/v1."),
        ("/login?next=%2Fv1", "to '/login?next=%2Fv1', which is not /chat/completions: set planner.openai.base_url"),
        ("", "to '', which is not /chat/completions"),
    ],
)
def test_redirects_say_where_to(location: str, words: str) -> None:
    with Server([lambda e: e.send("", "308 Permanent Redirect", f"Location: {location}\r\n")]) as server:
        host = f"127.0.0.1:{server.port}"
        location = location.replace("HOST", host)
        assert words.replace("HOST", host) in refused(chat(server)).sentence
        assert len(server.asked) == 1


def test_a_token_at_the_edge_of_what_is_shown_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "sk-0123456789abcdef"
    monkeypatch.setenv("MY_TOKEN", token)
    edges = [lambda e, n=n: e.send(openai("x" * n + token), "500 Oh no") for n in range(280, 301, 4)]
    with Server([*edges, says("ok")]) as server:
        model = chat(server, token_variable="MY_TOKEN")
        assert not any("sk-0" in refused(model).sentence for _ in edges)
