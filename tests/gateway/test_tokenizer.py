"""The tokenizer and the chat template of a model directory."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, processors

from prfaas.core.errors import ContextLengthError, ModelError, RequestError
from prfaas.gateway.chat_template import ChatTemplate, Message
from prfaas.gateway.tokenizer import INLINE_CHARS, ModelTokenizer
from tests.gateway import tiny_model

ASK: list[Message] = [{"role": "user", "content": "hi"}]

MANY = 1 << 20


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    """A model directory that a test may change."""
    return Path(shutil.copytree(model, tmp_path / "model"))


def write_config(path: Path, **config: Any) -> None:
    (path / "tokenizer_config.json").write_text(json.dumps(config))


async def test_a_chat_is_encoded_as_the_template_writes_it(model: Path) -> None:
    raw = Tokenizer.from_file(str(model / "tokenizer.json"))
    ids = await ModelTokenizer.load(model).encode_chat([{"role": "system", "content": "be kind"}, *ASK], MANY)
    text = "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert raw.decode(ids, skip_special_tokens=False) == text
    assert ids[0] == raw.token_to_id("<|im_start|>")


async def test_only_plain_prompts_get_the_post_processors_tokens(copy: Path) -> None:
    raw = Tokenizer.from_file(str(copy / "tokenizer.json"))
    start = raw.token_to_id("<|im_start|>")
    assert start is not None
    raw.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    raw.save(str(copy / "tokenizer.json"))
    tokenizer = ModelTokenizer.load(copy)
    assert await tokenizer.encode_text("hi", MANY) == (start, *raw.encode("hi", add_special_tokens=False).ids)
    chat = await tokenizer.encode_chat(ASK, MANY)
    assert chat.count(start) == 2, "the template writes its two, and nobody adds a third"


async def test_truncation_in_the_file_does_not_cut_prompts(copy: Path) -> None:
    raw = Tokenizer.from_file(str(copy / "tokenizer.json"))
    raw.enable_truncation(5)
    raw.enable_padding(length=50)
    raw.save(str(copy / "tokenizer.json"))
    assert len(await ModelTokenizer.load(copy).encode_text("x" * 20, MANY)) == 20


async def test_long_texts_are_encoded_beside_the_event_loop(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = ModelTokenizer.load(model)
    threads = []
    encode = tokenizer._encoder.encode

    def watched(text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
        threads.append(threading.current_thread())
        return encode(text, add_special_tokens=add_special_tokens)

    monkeypatch.setattr(tokenizer._encoder, "encode", watched)
    text = "once upon a time " * INLINE_CHARS
    long, short = await tokenizer.encode_text(text, MANY), await tokenizer.encode_text("hi", MANY)
    assert threads[0] is not threading.main_thread()
    assert threads[1] is threading.main_thread()
    assert long == tuple(Tokenizer.from_file(str(model / "tokenizer.json")).encode(text).ids)
    assert len(short) == 2


RAW = tiny_model.train()
PLAIN = ModelTokenizer(RAW, None)


@given(st.text(max_size=50))
async def test_what_is_encoded_decodes_to_itself(text: str) -> None:
    assert RAW.decode(await PLAIN.encode_text(text, MANY), skip_special_tokens=False) == text


def test_prompts_of_token_ids(model: Path) -> None:
    tokenizer = ModelTokenizer.load(model)
    num_ids = Tokenizer.from_file(str(model / "tokenizer.json")).get_vocab_size()
    assert tokenizer.check_ids([0, num_ids - 1]) == (0, num_ids - 1)
    assert tokenizer.check_ids([]) == ()
    with pytest.raises(RequestError, match=f"{num_ids} is outside the vocabulary"):
        tokenizer.check_ids([0, num_ids])
    with pytest.raises(RequestError, match="-1 is negative"):
        tokenizer.check_ids([-1])


async def test_a_file_of_its_own_wins_over_the_config(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("{{ messages[0].content }}{{ eos_token }}")
    tokenizer = ModelTokenizer.load(copy)
    raw = Tokenizer.from_file(str(copy / "tokenizer.json"))
    assert raw.decode(await tokenizer.encode_chat(ASK, MANY), skip_special_tokens=False) == "hi<|im_end|>"


async def test_of_several_templates_the_default_is_taken(copy: Path) -> None:
    templates = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    write_config(copy, chat_template=templates, eos_token={"content": "<|im_end|>", "lstrip": False})
    raw = Tokenizer.from_file(str(copy / "tokenizer.json"))
    assert raw.decode(await ModelTokenizer.load(copy).encode_chat(ASK, MANY)) == "yes"


async def test_without_a_chat_template_there_is_no_chat(copy: Path) -> None:
    (copy / "tokenizer_config.json").unlink()
    tokenizer = ModelTokenizer.load(copy)
    with pytest.raises(RequestError, match="/v1/completions"):
        await tokenizer.encode_chat(ASK, MANY)
    assert await tokenizer.encode_text("hi", MANY)


def test_a_directory_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        ModelTokenizer.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_config(copy: Path, text: str) -> None:
    (copy / "tokenizer_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"tokenizer_config\.json"):
        ModelTokenizer.load(copy)


def test_a_broken_template(copy: Path) -> None:
    write_config(copy, chat_template="{% for %}")
    with pytest.raises(ModelError, match="not valid jinja"):
        ModelTokenizer.load(copy)


def test_templates_render_as_in_hugging_face() -> None:
    source = """\
{% for message in messages %}
    {% if loop.index0 == 2 %}{% break %}{% endif %}
{{ message | tojson }}
{% endfor %}
{{ strftime_now("%Y") | length }}"""
    messages: list[Message] = [{"role": "user", "content": "<é>"}] * 3
    line = '{"role": "user", "content": "<é>"}\n'
    assert ChatTemplate(source, {}).render(messages) == line * 2 + "4"


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}{{ ().__class__.__base__.__subclasses__() }}",
        "{{ nothing.at.all }}",
    ],
)
def test_what_a_template_refuses_is_the_clients_error(source: str) -> None:
    with pytest.raises(RequestError, match="chat template"):
        ChatTemplate(source, {}).render(ASK)


async def test_a_text_that_cannot_fit_is_refused_unread(model: Path) -> None:
    tokenizer = ModelTokenizer.load(model)
    with pytest.raises(ContextLengthError, match="the context has 10"):
        await tokenizer.encode_text("x" * 1_000_000, 10)
    with pytest.raises(ContextLengthError, match="the context has 10"):
        await tokenizer.encode_chat([{"role": "user", "content": "x" * 1_000_000}], 10)


def test_decoders_that_take_characters_back_do_not_end_the_answer() -> None:
    raw = Tokenizer(models.BPE({"<0xE2>": 0, "<0x82>": 1, "<0xAC>": 2, "<0xFF>": 3, "x": 4}, [], byte_fallback=True))
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    decoder = ModelTokenizer(raw, None).detokenizer([])
    text = "".join(decoder.push(token) for token in (0, 1, 2, 3, 4)) + decoder.flush()
    assert text.endswith("x")


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("{% if tools is not none %}TOOLS{% endif %}{{ messages[0].content }}", "hi"),
        ("{{ {'a': 1} | tojson(separators=(',', ':')) }}", '{"a":1}'),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "hi"),
    ],
)
def test_templates_as_hugging_face_renders_them(template: str, rendered: str) -> None:
    assert ChatTemplate(template, {}).render([{"role": "user", "content": "hi"}]) == rendered


def test_a_template_that_stumbles_is_the_requests_fault() -> None:
    with pytest.raises(RequestError, match="refuses these messages"):
        ChatTemplate("{{ messages[0].content + 1 }}", {}).render([{"role": "user", "content": "hi"}])
