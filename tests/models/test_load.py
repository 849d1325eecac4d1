"""What is saved is what is loaded."""

import pytest

import tiny
from heedful.models.load import load_tokenizer
from heedful.models.save import save_model


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_a_tokenizer_comes_back_as_it_was(arch, tmp_path):
    """Mutation caught: AutoTokenizer, which splits text by the rules of Qwen2 wherever the model is one."""
    tok = tiny.tokenizer()
    save_model(tiny.policy(tok, arch=arch), tok, tmp_path)
    again = load_tokenizer(str(tmp_path))
    text = "What is 2 + 2? Zwölf Boxkämpfer, 1234!"
    assert again.get_vocab() == tok.get_vocab()
    assert again(text)["input_ids"] == tok(text)["input_ids"]
    chat = [{"role": "user", "content": text}]
    said = [t.apply_chat_template(chat, add_generation_prompt=True) for t in (tok, again)]
    assert said[0] == said[1]
    assert (again.eos_token_id, again.pad_token_id) == (tok.eos_token_id, tok.pad_token_id)
