"""A model of random weights that ends each response where its prompt says, so that both sides sample the same number
of tokens although lengths are ragged.

The last token of a prompt is one of `LAST`, and says after which position the end token follows. The first head of
the first layer attends to everything alike (its keys are zero) and reads a mark that only that token carries, so it
knows mark / position; the end token's row of the output layer waits until that falls below one. All else is random.
"""

from __future__ import annotations

from typing import Any

LAST = [round(12 * 1.07**i) for i in range(62)]  # 12 … 744 tokens, prompt and all
ONE, MARK = 0, 1  # components of the residual stream: a constant 1, and the mark over the position
# How much more or less likely the end token is for each unit of the clock: in bfloat16, whose numbers tell it to a
# hundredth at best, so little that two roundings of one state do not differ by more nats than float32's e^x can hold.
SURE = {"float32": 3e4, "bfloat16": 1e3}


def token(last: int) -> str:
    return f"<{last}>"


def last_token(prompt: int, response: int) -> int:
    """Which of `LAST` makes a prompt of so many tokens, itself included, get about so long a response."""
    late = [n for n in LAST if n >= prompt]  # at its own position the mark is not seen through
    return max((n for n in late if written(prompt, n, response + 1) <= response), default=late[0])


def written(prompt: int, last: int, most: int) -> int:
    """Tokens that the model writes, the end token included: it follows the first position behind `last`."""
    return min(most, last + 2 - prompt)


def wind(model: Any, tokenizer: Any, sure: float) -> None:
    """Set the clock into a Qwen2 model whose embeddings are not tied."""
    import torch

    base, config = model.model, model.config
    size, first = config.hidden_size, base.layers[0].self_attn
    wide = size // config.num_attention_heads
    marks = torch.tensor([n + 0.5 for n in LAST])
    ids = tokenizer.convert_tokens_to_ids([token(n) for n in LAST])
    with torch.no_grad():
        table, head = base.embed_tokens.weight, model.lm_head.weight
        for layer in base.layers:  # what nobody else may write to
            layer.self_attn.o_proj.weight[[ONE, MARK]] = 0
            layer.mlp.down_proj.weight[[ONE, MARK]] = 0
        for linear in (first.k_proj, first.v_proj):
            linear.weight[:wide] = 0
            linear.bias[:wide] = 0
        first.v_proj.weight[0, MARK] = 1
        gain = marks.max() / (0.9 * size**0.5)
        first.o_proj.weight[MARK, 0] = gain
        table[:, ONE], table[:, MARK] = 1, 0
        # The mark passes a norm before the head reads it: solve s √d / √(rest² + s² + d ε) = mark / gain for s.
        seen = marks / gain
        rest = table[ids].square().sum(1) + size * config.rms_norm_eps
        table[ids, MARK] = seen * (rest / (size - seen**2)).sqrt()
        head[:, [ONE, MARK]] = 0
        # Never sampled: the marks, and padding, which some trainers would take for the end of the response.
        head[[*ids, tokenizer.pad_token_id], ONE] = -sure
        head[tokenizer.eos_token_id] = 0
        head[tokenizer.eos_token_id, ONE], head[tokenizer.eos_token_id, MARK] = sure, -sure
