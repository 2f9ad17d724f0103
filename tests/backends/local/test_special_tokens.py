"""Which texts a model would read as special tokens, and where they are cut."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneful.backends.local import find
from tuneful.backends.local.special_tokens import SpecialTokens, new_mark

CHATML = SpecialTokens(["<|im_start|>", "<|im_end|>", "<s>", "<", "[INST]"])


def gguf(path, tokens, types=None):
    """Write the head of a GGUF file with a vocabulary, and something before and after it."""

    def text(value):
        return struct.pack("<Q", len(value.encode())) + value.encode()

    entries = [
        text("general.name") + struct.pack("<I", 8) + text("a name"),
        text("some.floats") + struct.pack("<IIQ3f", 9, 6, 3, 1.0, 2.0, 3.0),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, len(tokens)) + b"".join(map(text, tokens)),
        text("nested") + struct.pack("<IIQIQ2H", 9, 9, 1, 2, 2, 7, 8),
        text("flag") + struct.pack("<I?", 7, True),
    ]
    if types is not None:
        entries.append(text("tokenizer.ggml.token_type") + struct.pack(f"<IIQ{len(types)}i", 9, 5, len(types), *types))
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + b"".join(entries))
    return path


def test_control_tokens_and_tags_are_special_and_ordinary_tokens_are_not(tmp_path):
    vocabulary = {
        "<unk>": 2,
        "<|im_end|>": 3,
        "odd control": 3,
        "<tool_call>": 4,
        "   ": 4,  # added by the file, but ordinary text
        "hello": 1,
        "</div>": 1,
        "<|eot_id|>": 1,  # made a control token by llama.cpp, whatever the file says
        "<start_of_turn>": 1,
        "[INST]": 1,
        "<0x0A>": 6,
        "é": 1,
    }
    found = SpecialTokens.of_file(gguf(tmp_path / "some.gguf", list(vocabulary), list(vocabulary.values())))
    assert found.texts == {
        "<unk>", "<|im_end|>", "odd control", "<tool_call>", "<|eot_id|>", "<start_of_turn>", "[INST]"
    }  # fmt: skip


def test_a_file_without_types_is_judged_by_the_look_of_its_tokens(tmp_path):
    found = SpecialTokens.of_file(gguf(tmp_path / "some.gguf", ["<|im_end|>", "word", "<b>"]))
    assert found.texts == {"<|im_end|>"}


@pytest.mark.skipif(not find.is_available(), reason="the embedded model is not installed")
def test_the_embedded_model_has_those_of_its_template():
    found = SpecialTokens.of_file(find.find_model("smollm2")).texts
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= found
    assert len(found) < 100


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("a<|im_end|>b", "a<#|im_end|>b"),
        ("<|im_end|><|im_start|>", "<#|im_end|><#|im_start|>"),
        ("<|im_<|im_end|>end|>", "<|im_<#|im_end|>end|>"),
        ("<s><s", "<#s><s"),
        ("<<s>", "<<#s>"),
        ("[INST] x [/INST]", "[#INST] x [/INST]"),
        ("<|IM_END|> < |im_end|>", "<|IM_END|> < |im_end|>"),
    ],
)
def test_a_special_token_is_cut_and_nothing_else_is(text, cut):
    assert CHATML.cut(text, "#") == cut


def test_overlapping_tokens_are_both_cut():
    assert SpecialTokens(["ab", "bc"]).cut("abc", "#") == "a#b#c"


def test_values_without_special_tokens_are_given_back_as_they_are():
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a < b"}]}], "n": 1, "x": None}
    assert CHATML.cut(body, "#") is body


def test_every_text_within_json_values_is_cut():
    calls = [{"function": {"name": "f", "arguments": '{"x": "<s>"}'}}]
    found = CHATML.cut([{"content": "<s>", "tool_calls": calls, "n": 3}], "#")
    assert found == [{"content": "<#s>", "tool_calls": [{"function": {"name": "f", "arguments": '{"x": "<#s>"}'}}], "n": 3}]  # fmt: skip


@given(st.lists(st.sampled_from([*CHATML.texts, "<", "<|", "|>", "im_end", "x", "\n"])).map("".join))
def test_no_piece_holds_a_special_token_and_together_they_are_the_text(text):
    mark = new_mark()
    pieces = CHATML.cut(text, mark).split(mark)
    assert "".join(pieces) == text
    assert not any(token in piece for token in CHATML.texts for piece in pieces)
