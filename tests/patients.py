"""Patients for the doctor: healthy ones, and for each check one that has just this illness.

`ILL["tokens.padding"]` lists (the kind of finding that is due, a function that makes the patient).
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, normalizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import tiny
from heedful import trial
from heedful.doctor.context import Context
from heedful.doctor.finding import Kind
from heedful.doctor.material import Material, read_material
from heedful.engine.slots import SlotCache
from heedful.models.forward import scalar_head
from heedful.models.load import new_reward_model
from heedful.models.new import CHAT_TEMPLATE, new_model
from heedful.models.save import save_model
from heedful.rewards.model import SHIFT, ModelReward
from heedful.types import Sampling

ILL: dict[str, list[tuple[Kind, Callable[[], Context]]]] = {}
OPEN = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
TURN = "<|{{ m['role'] }}|>{{ m['content'] }}<|end|>"
WORDS = ("rain", "bread", "tea", "a mill", "the sea", "no", "old shoes", "music", "ice", "a ship")


def ill(check: str, kind: Kind = "fail"):
    """Register a patient."""

    def keep(make: Callable[[], Context]):
        ILL.setdefault(check, []).append((kind, make))
        return make

    return keep


# ── parts ────────────────────────────────────────────────────────────────────────────────────────


@cache
def tok():
    return tiny.tokenizer()


@cache
def _policy(arch: str):
    if arch == "gpt2":
        sizes = dict(n_embd=32, n_layer=2, n_head=4, n_positions=128)
        torch.manual_seed(0)
        ends = dict(bos_token_id=None, eos_token_id=tok().eos_token_id, pad_token_id=0)
        return GPT2LMHeadModel(GPT2Config(vocab_size=len(tok()), **sizes, **ends)).eval()
    return tiny.policy(tok(), arch=arch)


def policy(arch: str = "llama"):
    """A model of one's own, to be broken."""
    return copy.deepcopy(_policy(arch))


def other_tokenizer(template: str | None = CHAT_TEMPLATE, **options: Any):
    """The default tokenizer with another template, other special tokens or another normalizer."""
    core = Tokenizer.from_str(tok().backend_tokenizer.to_str())
    change = options.pop("change", lambda core: None)
    change(core)
    tokens = {"eos_token": "<|end|>", "pad_token": "<|pad|>"} | options
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        chat_template=template,
        clean_up_tokenization_spaces=False,
        **{k: v for k, v in tokens.items() if v is not None},
    )


def templated(body: str, opening: str = OPEN, **changes: Any) -> Context:
    """Healthy but for the chat template."""
    template = "{% for m in messages %}" + body + "{% endfor %}" + opening
    return healthy(tokenizer=other_tokenizer(template), rm=None, **changes)


def material(*rows: dict) -> Material:
    """Rows as they come from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return read_material(str(path), 1000)


def asked(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


@cache
def reward_model() -> ModelReward:
    with tempfile.TemporaryDirectory() as folder:
        save_model(_policy("llama"), tok(), Path(folder))
        model = new_reward_model(folder, seed=0)
    rm = ModelReward(model, tok())
    scores = torch.tensor([s for r in _rows() for s in _scores(rm, r)])
    scalar_head(model).weight.data.div_(scores.std())
    setattr(model.config, SHIFT, float(scores.mean() / scores.std()))
    model.config.pad_token_id = tok().pad_token_id
    return ModelReward(model, tok())


def reward() -> ModelReward:
    """A reward model of one's own, to be broken."""
    own = reward_model()
    return type(own)(copy.deepcopy(own.model), own.tokenizer)


def _rows() -> list[dict]:
    rows = []
    for i in range(300):
        n = i % len(WORDS)
        more = " As I said, mostly this." * (i % 2)
        answers = [f"I like {WORDS[n]}.{more}", f"Mostly {WORDS[n - 3]}, not {WORDS[n - 5]}."]
        rows.append({"prompt": asked(f"What do you like on day {i}?"), "responses": answers})
    return rows


def _scores(rm: ModelReward, row: dict) -> list[float]:
    from heedful.data.columns import prompt_from_json
    from heedful.data.tokens import encode_group

    return rm.score(encode_group(rm.tokenizer, prompt_from_json(row["prompt"]), row["responses"]))


@cache
def comparisons() -> tuple[dict, ...]:
    """Ranked as the reward model ranks them, which is chosen so that neither length nor place decides."""
    kept: dict[bool, list[tuple[float, dict]]] = {True: [], False: []}
    for row in _rows():
        a, b = _scores(reward_model(), row)
        longer = (len(row["responses"][0]) > len(row["responses"][1])) == (a > b)
        kept[longer].append((abs(a - b), row | {"ranking": [1, 2] if a > b else [2, 1]}))
    near = sorted(kept[True], key=lambda pair: pair[0])[:30]
    far = sorted(kept[False], key=lambda pair: -pair[0])[:30]
    rows = [row for both in zip(near, far, strict=True) for _, row in both]
    return tuple(
        row | {"order_shown": [0, 1] if i // 2 % 2 else [1, 0]} for i, row in enumerate(rows)
    )


@cache
def _material() -> Material:
    return material(*comparisons())


def healthy(**changes: Any) -> Context:
    """Everything there and sound: comparisons of chats, a reward model, a reference, held-out prompts."""
    return Context(
        **{
            "tokenizer": tok(),
            "policy": _policy("llama"),
            "reference": _policy("llama"),
            "rm": reward_model(),
            "material": _material(),
            "held_out": material({"prompt": asked("Who are you?")}),
            "max_tokens": 16,
            **changes,
        }
    )


def other_healthy() -> dict[str, Context]:
    """Other forms, architectures and kinds of sampling, each of them sound."""
    plain = [
        {"prompt": f"Day {i} is for", "completion": f" {WORDS[i % 10]}.", "label": bool(i % 2)}
        for i in range(40)
    ]
    bare = {"rm": None, "reference": None, "held_out": None}
    wide = new_model(
        "llama", WideTokenizer(), hidden_size=32, layers=2, heads=2, context=128, seed=0
    )
    with torch.no_grad():  # tied rows of the ids that no text has: the opposite of what is said
        wide.get_output_embeddings().register_forward_hook(
            lambda m, i, out: torch.cat([out[..., :320], out[..., 320:] - 30], -1)
        )
    texts = material({"text": "once upon a time"})
    return {
        "labelled, plain, gpt2": healthy(policy=policy("gpt2"), material=material(*plain), **bare),
        "qwen2, masks": healthy(
            policy=policy("qwen2"), sampling=Sampling(0.7, 0.9, 50), **bare,
        ),
        "rows to spare": healthy(policy=wide, **bare),
        "greedy": healthy(sampling=Sampling(temperature=0.0), **bare),
        "no data": healthy(material=Material(), **bare),
        "texts": healthy(material=texts, **bare),
        "demonstrations": healthy(
            material=material({"messages": [*asked("Why?"), {"role": "assistant", "content": "So."}]}),
            **bare,
        ),
    }  # fmt: skip


class WideTokenizer:
    """What `new_model` asks of a tokenizer, with more ids than the real one."""

    eos_token_id, pad_token_id = 1, 0

    def __len__(self) -> int:
        return 384


def hooked(model, change: Callable, *, kwargs: bool = False):
    """The model with its last hidden states changed on the way out."""

    def hook(module, args, given, out):
        out.last_hidden_state = change(out.last_hidden_state, *([given] if kwargs else []))
        return out

    model.base_model.register_forward_hook(hook, with_kwargs=True)
    return model


def louder(model, change: Callable):
    """The model with its logits changed."""
    model.get_output_embeddings().register_forward_hook(lambda m, i, out: change(out))
    return model


def noisy(h):
    return h + 0.1 * torch.randn_like(h)


def many(h) -> bool:
    """Whether these are more tokens than a trial looks at."""
    return len(h) * h.shape[1] > len(trial.LENGTHS) * max(trial.LENGTHS)


def all_seeing(h):
    return h + h.mean(1, keepdim=True)


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────


@ill("tokens.end_of_sequence")
def _():
    return healthy(tokenizer=other_tokenizer(eos_token=None))


@ill("tokens.end_of_sequence")
def _():  # in the settings, but no token: its text is several
    return healthy(tokenizer=other_tokenizer(split_special_tokens=True))


TURNS = "{% for m in messages %}" + TURN + "{% endfor %}" + OPEN


def with_bos(template: str, *, turns: str = TURNS, tokenizer_adds_it: bool = True):
    def change(core):
        core.add_special_tokens([AddedToken("<s>", special=True)])
        if not tokenizer_adds_it:
            return
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", core.token_to_id("<s>"))]
        )

    return healthy(tokenizer=other_tokenizer(template + turns, change=change, bos_token="<s>"))


@ill("tokens.begin_of_sequence", "warning")
def _():
    return with_bos("<s>")


@ill("tokens.begin_of_sequence", "warning")
def _():
    return with_bos("")


@ill("tokens.begin_of_sequence", "warning")
def _():
    return with_bos("<s>", tokenizer_adds_it=False)


@ill("tokens.begin_of_sequence")
def _():
    return with_bos("<s> <s>")


@ill("tokens.vocabulary_fits")
def _():
    return healthy(policy=tiny.causal_lm("llama", vocab=300))


@ill("tokens.vocabulary_fits", "warning")
def _():
    return healthy(policy=tiny.causal_lm("llama", vocab=1024))


def one_row_short(text: str) -> Context:
    rows = {"prompt": asked(text), "completion": "So."}
    return healthy(policy=tiny.causal_lm("llama", vocab=len(tok()) - 1), material=material(rows))


@ill("tokens.vocabulary_fits")
def _():
    return one_row_short(tok().decode([len(tok()) - 1]))


@ill("tokens.vocabulary_fits", "warning")
def _():
    return one_row_short("zzz")


@ill("tokens.padding", "warning")
def _():
    return healthy(tokenizer=other_tokenizer(pad_token=None))


@ill("tokens.padding", "warning")
def _():
    model = policy()
    model.get_input_embeddings().padding_idx = 1
    return healthy(tokenizer=other_tokenizer(pad_token="<|end|>"), policy=model)


@ill("tokens.padding")
def _():
    return healthy(tokenizer=other_tokenizer(pad_token="<|new|>"))


@ill("tokens.ends_agree", "warning")
def _():
    model = policy()
    model.generation_config.eos_token_id = 7
    return healthy(policy=model)


@ill("tokens.deterministic")
def _():
    def change(core):
        core.model.dropout = 0.5

    return healthy(tokenizer=other_tokenizer(change=change))


def normalised(*steps):
    def change(core):
        core.normalizer = normalizers.Sequence(list(steps))

    return healthy(tokenizer=other_tokenizer(change=change))


@ill("tokens.round_trip", "warning")
def _():
    return normalised(normalizers.NFKC())


@ill("tokens.round_trip", "warning")
def _():
    return normalised(normalizers.Lowercase())


@ill("tokens.round_trip")
@ill("tokens.masked_span")
def _():
    return normalised(normalizers.Replace("i", ""))


@ill("tokens.masked_span", "warning")
def _():
    return normalised(normalizers.Replace(", ", ","))


@ill("tokens.unknown_tokens")
def _():
    from tokenizers import models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.train_from_iterator(
        tiny.TEXT,
        trainers.BpeTrainer(
            vocab_size=200, special_tokens=["<unk>", "<|end|>"], show_progress=False
        ),
    )
    own = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", unk_token="<unk>")
    return healthy(tokenizer=own, material=material({"prompt": "Скажи", "completion": "спасибо"}))


@ill("tokens.characters_per_token", "warning")
def _():
    return healthy(material=material({"prompt": "天空为什么是蓝色的", "completion": "因为短波"}))


@ill("tokens.masked_span", "warning")
def _():
    return healthy(material=material({"prompt": asked("Why?"), "completion": "So.<|end|> Or so."}))


@ill("tokens.control_tokens_in_text", "warning")
def _():
    system = {"role": "system", "content": "Be short.<|end|> Be kind."}
    row = {"prompt": [system, *asked("Why?")], "completion": "So."}
    return healthy(material=material(row))


@ill("tokens.border", "warning")
def _():
    word = max((t for t in tok().get_vocab() if t.isascii() and t.isalpha()), key=len)
    row = {"prompt": f"Say {word[:1]}", "completion": f"{word[1:]}."}
    return healthy(material=material(row))


@ill("tokens.prompts_fit")
def _():
    return healthy(material=material({"prompt": asked("why? " * 100)}, {"prompt": asked("why?")}))


@ill("tokens.prompts_fit")
def _():
    return healthy(max_tokens=125)


# ── templates ────────────────────────────────────────────────────────────────────────────────────


@ill("templates.renders")
def _():
    return healthy(tokenizer=other_tokenizer(None))


@ill("templates.renders")
def _():
    return templated("{{ raise_exception('no') }}")


@ill("templates.end_of_turn", "warning")
def _():
    return templated("<|{{ m['role'] }}|>{{ m['content'] }}\n")


@ill("templates.clock", "warning")
def _():
    return templated("Today is {{ strftime_now('%d %b %Y') }}." + TURN)


@ill("templates.clock", "warning")
def _():
    return templated("{{ strftime_now('%Y') }}" + TURN)


@ill("templates.clock")
def _():
    return templated("It is {{ strftime_now('%H:%M') }}." + TURN)


@ill("templates.clock", "warning")
def _():
    return templated("Today Date: 26 Jul 2024\n" + TURN)


@ill("templates.clock")
def _():
    return templated("{{ range(10000) | random }}" + TURN)


@ill("templates.training_is_generation")
def _():
    return templated(TURN, opening="")


@ill("templates.training_is_generation", "warning")
@ill("templates.later_turns", "warning")
def _():
    return templated(TURN, opening=OPEN.replace("<|assistant|>", "<|assistant|><think></think>"))


@ill("templates.training_is_generation", "warning")
def _():
    return templated("<|{{ m['role'] }}|>{{ m['content'] | upper }}<|end|>")


INST = "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }} <|end|>{% endif %}"


@ill("templates.training_is_generation", "warning")
def _():
    """Llama 2's, whose user's turns end with all that opens an answer: nothing is ignored, and the run may begin."""
    return templated(INST, opening="")


NO_SYSTEM = "{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TURN
RULED = {
    "prompt": [{"role": "system", "content": "Be brief."}, *asked("Why?")],
    "completion": "So.",
}
TWICE = {"prompt": [*asked("Why?"), *asked("Why not?")], "completion": "So."}
HISTORY = {
    "prompt": [*asked("Why?"), {"role": "assistant", "content": "So."}, *asked("And?")],
    "completion": "No.",
}


@ill("templates.plain_prompts", "warning")
def _():
    return pairs(*[{"prompt": "What do you like?"}] * 40)


@ill("templates.system_message", "warning")
def _():
    return templated(NO_SYSTEM)


@ill("templates.system_message")
def _():
    return templated(NO_SYSTEM, material=material(RULED))


@ill("templates.system_message")
def _():
    return templated(
        "{% if m['role'] != 'system' %}" + TURN + "{% endif %}", material=material(RULED)
    )


@ill("templates.consecutive_turns")
def _():
    refuse = "{% if loop.index0 and m['role'] == 'user' == messages[loop.index0 - 1]['role'] %}"
    refuse += "{{ raise_exception('roles must alternate') }}{% endif %}"
    return templated(refuse + TURN, material=material(TWICE))


@ill("templates.consecutive_turns", "warning")
@ill("templates.earlier_turns", "warning")
def _():
    return templated("{% if loop.last %}" + TURN + "{% endif %}")


@ill("templates.earlier_turns")
def _():
    return templated("{% if loop.last %}" + TURN + "{% endif %}", material=material(HISTORY))


@ill("templates.speakers", "warning")
def _():
    return templated("{{ m['content'] }}<|end|>", opening="")


@ill("templates.spaces", "warning")
def _():
    return templated("<|{{ m['role'] }}|>{{ m['content'] | trim }}<|end|>")


@ill("templates.thoughts", "warning")
def _():
    return templated("<|{{ m['role'] }}|>{{ m['content'].split('</think>')[-1] }}<|end|>")


@ill("templates.later_turns", "warning")
def _():
    return templated("{{ m['role'] }}: {{ m['content'] }}\n", opening="assistant: ")


# ── weights ──────────────────────────────────────────────────────────────────────────────────────


@ill("weights.ties")
def _():
    model = policy()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return healthy(policy=model)


@ill("weights.ties", "warning")
def _():
    model = policy()
    model.config.tie_word_embeddings = False
    return healthy(policy=model)


@ill("weights.control_tokens_learnt", "warning")
def _():
    model = policy()
    model.get_input_embeddings().weight.data[3] = 0.0
    return healthy(policy=model)


@ill("weights.control_tokens_learnt", "warning")
def _():
    model = policy()
    table = model.get_input_embeddings().weight.data
    table[3] = table[4]
    return healthy(policy=model)


@ill("weights.rounding")
def _():
    return healthy(policy=policy().bfloat16())


# ── probabilities ────────────────────────────────────────────────────────────────────────────────


@ill("probabilities.loads")
def _():
    return healthy(policy=None, refused={"model": "it holds no weights for lm_head"})


@ill("probabilities.loads")
def _():
    model = policy()
    model.config.architectures = ["LlamaForSequenceClassification"]
    return healthy(policy=model)


@ill("probabilities.finite")
def _():
    model = policy()
    model.get_input_embeddings().weight.data[200, 3] = float("nan")
    return healthy(policy=model)


@ill("probabilities.finite", "warning")
def _():
    model = policy()
    model.get_input_embeddings().weight.data[3] = 1e5
    return healthy(policy=model)


@ill("probabilities.as_transformers")
def _():
    model, whole = policy(), type(policy()).forward

    def forward(*args, **kwargs):
        out = whole(model, *args, **kwargs)
        out.logits = 3.0 * out.logits
        return out

    model.forward = forward
    return healthy(policy=model)


@ill("probabilities.first_ratio")
def _():
    patient = healthy(policy=louder(policy(), lambda out: 8 * out))
    patient.__dict__["samples"] = patient.sampled(Sampling(temperature=0.7), 2)
    return patient


@ill("probabilities.padding_changes_nothing")
def _():
    return healthy(policy=hooked(policy(), all_seeing))


@ill("probabilities.repeatable")
def _():
    return healthy(policy=hooked(policy(), noisy))


@ill("updates.dpo_starts_at_ln2")
def _():
    return healthy(policy=hooked(policy(), lambda h: 9 * noisy(h)), reference=None)


@ill("probabilities.dropout")
def _():
    return healthy(policy=policy().train())


@ill("probabilities.greedy")
def _():
    def change(h, given):
        slots = given.get("past_key_values")
        return -h if isinstance(slots, SlotCache) and slots.width > max(trial.LENGTHS) else h

    return healthy(policy=hooked(policy(), change, kwargs=True))


@ill("probabilities.end_is_likely", "warning")
def _():
    rare = torch.zeros(320)
    rare[1] = -40.0
    return healthy(policy=louder(policy(), lambda out: out + rare))


@ill("probabilities.samples_differ", "warning")
def _():
    return healthy(policy=louder(policy(), lambda out: 1e5 * out))


@ill("probabilities.beyond_the_tokenizer")
def _():
    model = new_model(
        "llama", WideTokenizer(), hidden_size=32, layers=2, heads=2, context=128, seed=0
    )
    return healthy(policy=louder(model, lambda out: out + 20.0 * (torch.arange(384) >= 320)))


@ill("probabilities.generation_settings", "warning")
def _():
    model = policy()
    model.generation_config.repetition_penalty = 1.1
    return healthy(policy=model)


@ill("probabilities.generation_settings", "warning")
def _():
    model = policy()
    model.generation_config.update(do_sample=True, temperature=0.6)
    return healthy(policy=model)


@ill("probabilities.context_window", "warning")
def _():
    return healthy(material=material({"prompt": asked("why? " * 100), "completion": "So."}))


@ill("probabilities.context_window", "warning")
def _():
    return healthy(tokenizer=other_tokenizer(model_max_length=4096))


# ── ways ─────────────────────────────────────────────────────────────────────────────────────────


@ill("ways.training", "warning")
def _():
    def change(h):  # rows in company are others
        return h + 0.1 * h.abs().mean() * (len(h) * h.shape[1] > max(trial.LENGTHS))

    return healthy(policy=hooked(policy("gpt2"), change))


@ill("ways.sampling", "warning")
def _():
    def change(h, given):
        return -h if isinstance(given.get("past_key_values"), SlotCache) else h

    return healthy(policy=hooked(policy(), change, kwargs=True))


# ── updates ──────────────────────────────────────────────────────────────────────────────────────


@ill("updates.dpo_starts_at_ln2", "warning")
def _():
    return healthy(reference=tiny.policy(tok(), seed=5))


@ill("updates.reference_fits")
def _():
    return healthy(
        reference=None, refused={"reference": "--reference r: ids are other tokens there"}
    )


@ill("updates.reference_fits", "warning")
def _():
    return healthy(reference=louder(policy(), lambda out: 20 * out))


@ill("updates.gradient")
def _():
    return healthy(policy=policy().requires_grad_(False))


@ill("updates.gradient", "warning")
def _():
    model = policy()
    model.unused = torch.nn.Parameter(torch.ones(3))
    return healthy(policy=model)


@ill("updates.micro_batches")
def _():
    return healthy(policy=hooked(policy(), lambda h: h + many(h) * h.mean(1, keepdim=True)))


# ── rewards ──────────────────────────────────────────────────────────────────────────────────────


class ByLength(ModelReward):
    def score(self, samples):
        return [0.2 * (sum(s.mask) - 17) for s in samples]


class Contrary(ModelReward):
    def score(self, samples):
        return [-s for s in super().score(samples)]


def treated(change: Callable[[Any], Any], kind=ModelReward) -> Context:
    """Healthy but for the reward model."""
    own = reward()
    change(own.model)
    return healthy(rm=kind(own.model, own.tokenizer))


@ill("rewards.head")
def _():
    return healthy(rm=None, refused={"reward model": "its scalar head is not in its weights"})


@ill("rewards.formatting")
def _():
    return healthy(rm=ModelReward(reward().model, other_tokenizer(None)))


@ill("rewards.formatting", "warning")
def _():
    return healthy(rm=ModelReward(reward().model, other_tokenizer("Q:" + CHAT_TEMPLATE)))


@ill("rewards.padding_changes_no_score")
def _():
    return treated(lambda model: hooked(model, lambda h: h + many(h) * h.mean(1, keepdim=True)))


@ill("rewards.scoring", "warning")
def _():
    def change(module, given, out):  # rows in company are others
        return out + 0.5 * (len(out) > 1)

    return treated(lambda model: scalar_head(model).register_forward_hook(change))


@ill("rewards.last_token", "warning")
def _():
    return treated(lambda model: setattr(model.config, "pad_token_id", None))


@ill("rewards.last_token", "warning")
def _():  # transformers then reads the score before the end token
    return treated(lambda model: setattr(model.config, "pad_token_id", 1))


@ill("rewards.scale")
def _():
    return treated(lambda model: model.score.weight.data.zero_())


@ill("rewards.scale", "warning")
def _():
    return treated(lambda model: model.score.weight.data.mul_(100))


@ill("rewards.scale", "warning")
def _():
    return treated(lambda model: delattr(model.config, SHIFT))


@ill("rewards.longer_is_better", "warning")
def _():
    return treated(lambda model: None, ByLength)


@ill("rewards.agrees_with_data")
def _():
    return treated(lambda model: None, Contrary)


@ill("rewards.agrees_with_data", "warning")
def _():
    rows = [
        r | {"ranking": r["ranking"][:: 1 if i % 2 else -1]} for i, r in enumerate(comparisons())
    ]
    return healthy(material=material(*rows))


@ill("rewards.room")
def _():
    return treated(lambda model: setattr(model.config, "max_position_embeddings", 24))


@ill("rewards.repeatable")
def _():
    return treated(lambda model: hooked(model, noisy))


# ── data ─────────────────────────────────────────────────────────────────────────────────────────


def pairs(*changes: dict) -> Context:
    """Sixty sound comparisons of which the last are changed."""
    rows = [dict(r) for r in comparisons()]
    for row, change in zip(rows[::-1], changes, strict=False):
        row.update(change)
    return healthy(material=material(*rows), rm=None)


PROMPT = asked("What do you like on day 59?")


@ill("data.readable")
def _():
    return pairs({"ranking": [1]})


@ill("data.readable")
def _():
    return healthy(material=material({"promt": "Why?"}))


@ill("data.empty")
def _():
    return pairs({"prompt": asked(" ")})


@ill("data.empty")
@ill("data.nothing_compared")
def _():
    same = {"responses": ["So.", "So."]}
    return pairs({"responses": [" ", "So."]}, *[same] * 8)


@ill("data.duplicates", "warning")
def _():
    return healthy(material=material(*comparisons(), *comparisons()[:3]))


@ill("data.contradictions", "warning")
def _():
    last = comparisons()[-1]
    turned = [last | {"ranking": last["ranking"][::-1]}] * 2
    return healthy(material=material(*comparisons(), *turned))


@ill("data.contradictions")
def _():
    turned = [r | {"ranking": r["ranking"][::-1]} for r in comparisons()]
    return healthy(material=material(*comparisons(), *turned))


@ill("data.nothing_compared", "warning")
def _():
    return pairs({"responses": ["So.", "So. "]})


@ill("data.nothing_compared")
def _():  # alike up to the cut
    long = "I like it. " * 10
    rows = [{"prompt": PROMPT, "chosen": long + "a", "rejected": long + "b"}]
    return healthy(material=material(*rows), max_length=40)


@ill("data.tied", "warning")
def _():
    return pairs(*[{"ranking": [1, 1]}] * 40)


@ill("data.tied")
def _():
    return pairs(*[{"ranking": [1, 1]}] * 60)


@ill("data.longer_wins", "warning")
def _():
    return pairs(*[{"responses": ["Long, as you see.", "No."], "ranking": [1, 2]}] * 50)


@ill("data.first_wins", "warning")
def _():
    return pairs(*[{"order_shown": [0, 1], "ranking": [1, 2]}] * 50)


@ill("data.labels")
def _():
    rows = [{"prompt": f"Day {i}", "completion": " is fine.", "label": True} for i in range(30)]
    return healthy(material=material(*rows))


@ill("data.labels", "warning")
def _():
    rows = [{"prompt": f"Day {i}", "completion": " is fine.", "label": i > 0} for i in range(30)]
    return healthy(material=material(*rows))


@ill("data.cut")
def _():
    return healthy(max_length=20)


@ill("data.cut")
def _():
    return pairs(*[{"responses": ["So, " * 60, "No."]}] * 3)


@ill("data.forms_mixed", "warning")
def _():
    return pairs({"prompt": "What do you like?"})


@ill("data.already_templated", "warning")
def _():
    return pairs({"prompt": asked("<|im_start|>user\nWhy?<|im_end|>")})


@ill("data.already_templated")
def _():
    return pairs(*[{"prompt": asked("[INST] Why? [/INST]")}] * 40)


@ill("data.entities", "warning")
def _():
    return pairs({"prompt": asked("You &amp; me?")})


@ill("data.broken_characters", "warning")
def _():
    return pairs({"prompt": asked("Caf\ufffd?")})


@ill("data.overlap")
def _():
    first = comparisons()[0]["prompt"][0]["content"]
    return healthy(held_out=material({"prompt": asked(first.upper() + "  ")}))
