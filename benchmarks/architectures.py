"""`python -m benchmarks.architectures [NAME …] [--out FILE.jsonl]`: every decoder that `transformers` builds tiny.

A model of each architecture with random weights is tried as heedful tries any: which way it is trained and sampled
from, and how far log-probs of what the engine sampled, and those of the learner, are from a plain pass of
`transformers` over each row alone. Prompts are of unlike lengths, some longer than the models' sliding windows. A line
of JSON each; `--table FILE.jsonl` makes the table of docs/models.md of them. On another processor the last digits
differ; what is exact, slower or refused does not.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from heedful.errors import one_line

SMALL = dict(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=64, sliding_window=6, pad_token_id=0, bos_token_id=1,
    eos_token_id=2, n_embd=32, n_layer=2, n_head=4, n_positions=64, n_inner=48, d_model=32, n_layers=2, n_heads=4,
    max_seq_len=64, decoder_layers=2, encoder_layers=2, decoder_attention_heads=4, encoder_attention_heads=4,
    decoder_ffn_dim=48, encoder_ffn_dim=48, ffn_dim=48, d_ff=48, num_experts=4, num_local_experts=4,
    n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=16,
    n_shared_experts=1, n_group=1, topk_group=1, first_k_dense_replace=1, q_lora_rank=16, kv_lora_rank=16,
    qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8, rotary_dim=4, attention_hidden_size=32, state_size=8,
    mamba_d_state=8, mamba_dt_rank=4, time_step_rank=4, linear_num_value_heads=4, linear_num_key_heads=2,
    linear_key_head_dim=8, linear_value_head_dim=8, attention_chunk_size=6, ffn_hidden_size=48, num_heads=4,
    num_layers=2, window_size=6, lru_width=32, attention_window_size=6, embedding_size=32, word_embed_proj_dim=32,
    d_kv=8, dim_head=8, dim_ff=48, dim_model=32, hidden_size_per_layer_input=8, vocab_size_per_layer_input=96,
    num_kv_shared_layers=0, max_target_positions=64, index_n_heads=2, index_head_dim=8, index_topk=64,
    mlp_hidden_size=48, expert_ffn_hidden_size=16, moe_topk=2, dense_intermediate_size=48, num_kv_heads=2,
    multi_query_group_num=2, query_pre_attn_scalar=8, layer_norm_epsilon=1e-5, key_dim=8, value_dim=8,
)  # fmt: skip
HEADS = dict(mamba_n_heads=4, mamba_d_head=16, mamba_n_groups=1)
BESIDES: dict[str, dict[str, Any]] = {  # what an architecture wants otherwise
    "bamba": {**HEADS, "attn_layer_indices": [1]},
    "dots3_note_text": {"num_key_value_heads": 4},
    "falcon_h1": {**HEADS, "mamba_d_ssm": 64},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {**HEADS, "layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["full_attention", "conv"]},
    "lfm2_moe": {"layer_types": ["full_attention", "conv"]},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "roc_bert": {"pronunciation_vocab_size": 96, "shape_vocab_size": 96},
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
}
PROMPTS, NEW, SAMPLES = (3, 12, 7), 8, 2
STOP = (0, 2)  # padding too: RoBERTa and its kin count positions without it
SCALE = 3.0  # of the weights, so that distributions are far from uniform
MODALITIES = ("vision_config", "audio_config", "encoder", "image_token_id", "audio_encoder")


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.architectures", description=__doc__)
    p.add_argument("names", nargs="*", metavar="NAME", help="model types; default: all")
    p.add_argument("--out", type=Path, help="a file to write lines to")
    p.add_argument("--table", type=Path, help="print the table of these lines and do nothing else")
    args = p.parse_args(argv)
    if args.table:
        print(table([json.loads(line) for line in args.table.read_text().splitlines()]))
        return 0
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    logging.disable(logging.WARNING)
    signal.signal(signal.SIGALRM, _late)
    lines = []
    for name in args.names or sorted(NAMES):  # one after another: each imports a family
        lines.append(json.dumps(measured(name, NAMES[name])))
        print(lines[-1], flush=True)
    if args.out:
        args.out.write_text("".join(line + "\n" for line in lines))
    return 0


def _late(*_: Any) -> None:
    raise TimeoutError("it takes more than a minute")


def measured(name: str, kind: str) -> dict[str, Any]:
    """A line: the ways and gaps, or `refused` with heedful's sentence, or `not built` with the reason."""
    line: dict[str, Any] = {"architecture": name, "class": kind}
    signal.alarm(60)
    try:
        try:
            model = tiny(name)
        except Exception as error:
            return line | {"not built": one_line(error, 160)}
        return line | examined(model)
    except Exception as error:
        return line | {"broke": f"{type(error).__name__}: {one_line(error, 160)}"}
    finally:
        signal.alarm(0)


def tiny(name: str) -> Any:
    """A model of this type with random weights. ValueError where text is not all that it reads."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[name]
    takes = set(inspect.signature(kind.__init__).parameters) | set(kind.attribute_map)
    if "text_config" in takes or any(part in takes for part in MODALITIES):
        raise ValueError("it reads more than text")
    sizes = {k: v for k, v in SMALL.items() if k in takes}
    if "is_decoder" in takes:
        sizes["is_decoder"] = True
    if "qk_rope_head_dim" in takes:  # latent attention has sizes of its own
        sizes["num_key_value_heads"] = 4
        sizes.pop("head_dim", None)
    # Of layers of several kinds one each.
    kinds = list(dict.fromkeys(getattr(kind(), "layer_types", None) or ()))
    if kinds and "layer_types" in takes and not hasattr(kind, "layers_block_type"):
        count = max(2, len(kinds))
        sizes |= {"num_hidden_layers": count, "layer_types": (kinds * 2)[:count]}
    config = AutoConfig.for_model(name, **{**sizes, **BESIDES.get(name, {})})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    if (count := sum(p.numel() for p in model.parameters())) > 5_000_000:
        raise ValueError(f"made small it still has {count:,} parameters")
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.mul_(SCALE)
    return model


def examined(model: Any) -> dict[str, Any]:
    """How heedful runs the model, and how far it is from plain `transformers`, in nats a token."""
    import torch

    from heedful import trial
    from heedful.engine.trial import way_of
    from heedful.errors import UserError
    from heedful.models.backend import backend_of
    from heedful.models.forward import token_logps
    from heedful.models.load import check_head

    try:
        check_head(model, type(model).__name__)
        way = way_of(model)
    except UserError as error:
        return {"refused": str(error)}
    samples = asyncio.run(_sampled(model))
    sampled, learnt = 0.0, 0.0
    tokens = torch.nn.utils.rnn.pad_sequence([ids for ids, *_ in samples], batch_first=True)
    mask = torch.zeros(tokens[:, 1:].shape, dtype=torch.bool)
    for row, (ids, start, _) in enumerate(samples):
        mask[row, start - 1 : len(ids) - 1] = True
    with torch.no_grad():
        ours = token_logps(model, tokens, mask)
        run = trial.log_probs(model)
        for row, (ids, start, logprobs) in enumerate(samples):
            said = run(ids[None])[start - 1 : -1].gather(1, ids[start:, None]).squeeze(1)
            sampled = max(sampled, float((torch.tensor(logprobs) - said).abs().max()))
            learnt = max(learnt, float((ours[row, mask[row]] - said).abs().max()))
    return {
        "sampled from": way,
        "engine": sampled,
        "trained": type(backend_of(model)).__name__.lower(),
        "learner": learnt,
        "rounding": trial.plainly(model, run).bound,
    }


async def _sampled(model: Any) -> list[tuple[Any, int, tuple[float, ...]]]:
    """Sampled rows: ids, where the response begins, and the engine's log-probs."""
    import torch

    from heedful.engine import load_engine
    from heedful.types import Sampling

    engine, rows = load_engine(model), []
    prompts = [[3 + (7 * i + 5 * n) % 90 for i in range(n)] for n in PROMPTS]
    asked = (
        engine.generate(p, n=SAMPLES, max_tokens=NEW, sampling=Sampling(), stop=STOP, seed=n)
        for n, p in enumerate(prompts)
    )
    for prompt, completions in zip(prompts, await asyncio.gather(*asked), strict=True):
        for c in completions:
            rows.append((torch.tensor([*prompt, *c.tokens]), len(prompt), c.logprobs))
    return rows


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: what is sampled from in batches, by the plain way, refused, and not built."""
    rows = [
        "| architecture | sampled from | trained on | engine | learner |",
        "|---|---|---|---|---|",
    ]
    for x in sorted(
        lines, key=lambda x: (x.get("sampled from", "~") != "slots", x["architecture"])
    ):
        if "sampled from" in x:
            way = "in batches" if x["sampled from"] == "slots" else x["sampled from"]
            trained = {"rows": "rows", "plain": "padded batches"}.get(
                x["trained"], "packed batches"
            )
            gaps = f"{x['engine']:.0e} | {x['learner']:.0e}"
            rows.append(f"| `{x['architecture']}` | {way} | {trained} | {gaps} |")
    others = []
    for what in ("refused", "broke", "not built"):
        reasons: dict[str, list[str]] = {}
        for x in lines:
            if what in x:
                reason = x[what].replace(f"{x['class']} ({x['architecture']})", "it")
                reasons.setdefault(reason, []).append(f"`{x['architecture']}`")
        others += [f"- {what}: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return "\n".join([*rows, "", *others])


if __name__ == "__main__":
    sys.exit(main())
