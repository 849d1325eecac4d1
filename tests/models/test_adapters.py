"""Adapters, frozen layers, recomputed layers: exact at the start, exact where nothing may change, and on disk."""

import asyncio
import json
from dataclasses import fields, replace

import peft
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    OPTConfig,
    OPTForCausalLM,
)

import tiny
from heedful.data.collate import collate
from heedful.engine.local import LocalEngine
from heedful.errors import UserError
from heedful.fast.layers import checkpoint_layers, layers_of
from heedful.learner.local import LocalLearner, Loss, Optim, predict
from heedful.losses.preference import dpo
from heedful.models.adapters import add_lora, reference_of
from heedful.models.forward import scalar_head
from heedful.models.freeze import freeze_bottom
from heedful.models.load import (
    copy_model,
    load_policy,
    load_reward_model,
    new_reward_model,
)
from heedful.models.merging import merge, merged_copy
from heedful.models.save import save_model
from heedful.models.scores import sequence_scores
from heedful.recipes.preference import pair_logps
from heedful.rewards.model import SHIFT
from heedful.training.forwards import policy_forward
from heedful.types import Paired, Sample, Sampling

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing")  # PEFT's own call
IDS = torch.randint(4, 300, (2, 11), generator=torch.Generator().manual_seed(4))
LENGTHS = torch.tensor([11, 7])
ARCHITECTURES = ("llama", "gpt2")


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """A folder with a whole model of each architecture."""
    at = tmp_path_factory.mktemp("bases")
    for arch in ARCHITECTURES:
        save(tiny.causal_lm(arch), at / arch)
    return at


def save(model, folder):
    folder.mkdir(parents=True)
    save_model(model, tiny.tokenizer(), folder)
    return str(folder)


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def rows(n=8):
    g = torch.Generator().manual_seed(2)
    samples = []
    for i in range(n):
        size = int(torch.randint(3, 24, (1,), generator=g))
        ids = torch.randint(4, 300, (size,), generator=g).tolist()
        samples.append(Sample(tuple(ids), (False, *(True,) * (size - 1)), (-1.0,) * size, group=i))
    return samples


def trained(model, steps=3, lr=1e-2):
    """A few steps of fine-tuning on random tokens; returns the learner."""
    learner = LocalLearner(model, policy_forward(), Optim(lr, steps, schedule="constant", warmup=0))
    for _ in range(steps):
        learner.step(lambda out, b: Loss(-out.logp), collate(rows()))
    return learner


def with_lora(folder, **other):
    model = load_policy(str(folder))
    add_lora(model, rank=4, seed=1, **other)
    return model


@pytest.fixture(scope="module")
def sft(bases, tmp_path_factory):
    """A folder with an SFT adapter of each architecture, and the logits it had in memory."""
    at, said = tmp_path_factory.mktemp("sft"), {}
    for arch in ARCHITECTURES:
        model = with_lora(bases / arch)
        trained(model)
        said[arch] = logits(model)
        save(model, at / arch)
    return at, said


# ── exact at the start, and what may move ────────────────────────────────────────────────────────


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_step_0_is_the_base_exactly(bases, arch):
    """Bit for bit. Mutation caught: B drawn at random, a copy of the base's weights that is rounded."""
    model = with_lora(bases / arch)
    assert torch.equal(logits(model), logits(load_policy(str(bases / arch))))
    assert type(model).__name__ == type(tiny.causal_lm(arch)).__name__


def test_the_seed_decides_and_nothing_else(bases):
    """Mutation caught: A drawn from the global generator, which then goes on elsewhere."""
    state = torch.random.get_rng_state()
    draws = []
    for seed in (1, 1, 2):
        torch.rand(seed)
        model = load_policy(str(bases / "llama"))
        add_lora(model, rank=4, seed=seed)
        draws.append(next(p for n, p in model.named_parameters() if "lora_A" in n).detach().clone())
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    torch.random.set_rng_state(state)
    add_lora(load_policy(str(bases / "llama")), rank=4)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_only_the_adapter_moves(bases, arch):
    """Base weights bit-identical, optimiser states for the adapter alone, and it does learn.

    Mutation caught: norms, biases or embeddings left trainable beside the adapter.
    """
    model, base = with_lora(bases / arch), load_policy(str(bases / arch)).state_dict()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    learner = trained(model)
    for name, p in model.named_parameters():
        assert ("lora_" in name) == p.requires_grad
        assert torch.equal(p, before[name]) == ("lora_" not in name), name
    now = {k.replace(".base_layer", ""): v for k, v in model.state_dict().items()}
    assert all(torch.equal(now[k], v) for k, v in base.items())
    adapter = sum(p.numel() for p in model.parameters() if p.requires_grad)
    states = learner.optimizer.state.values()
    assert sum(s["exp_avg"].numel() for s in states) == adapter


# ── the reference ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_reference_is_the_start_without_a_second_copy(bases, arch):
    """Exactly the base after training, in the very same model, and the policy comes back unharmed.

    Mutation caught: adapters not switched on again; requires_grad not given back (PEFT sets it anew
    whenever an adapter is switched), so that frozen bottom layers would learn.
    """
    model = with_lora(bases / arch)
    freeze_bottom(model, 1)
    flags = [p.requires_grad for p in model.parameters()]
    start, reference = logits(model), reference_of(model)
    trained(model)
    moved = logits(model)
    with pytest.raises(KeyError), reference.active() as frozen:
        assert frozen is model
        assert torch.equal(logits(frozen), start)
        assert not frozen(input_ids=IDS).logits.requires_grad
        raise KeyError  # whatever happens in there, the policy is itself again
    assert not torch.equal(moved, start) and torch.equal(logits(model), moved)
    assert [p.requires_grad for p in model.parameters()] == flags
    trained(model, steps=1)
    assert not torch.equal(logits(model), moved)


def test_without_lora_the_reference_is_a_frozen_copy(bases):
    model = load_policy(str(bases / "llama"))
    start, reference = logits(model), reference_of(model)
    trained(model)
    with reference.active() as frozen:
        assert torch.equal(logits(frozen), start)
    assert not torch.equal(logits(model), start)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_14_the_reference_of_an_sft_adapter_is_the_sft_policy(sft, bases, arch):
    """Trap 14. Mutation caught: adapters switched off where the policy *started* as an adapter.

    The bare base is far away, so switching off is visible: tried, the second assertion fails.
    """
    folder, said = sft
    model = with_lora(folder / arch)
    reference = reference_of(model)
    assert torch.equal(logits(model), said[arch])
    trained(model)
    with reference.active() as frozen:
        assert torch.equal(logits(frozen), said[arch])
    base = logits(load_policy(str(bases / arch)))
    assert (said[arch] - base).abs().max() > 0.1
    assert (logits(model) - said[arch]).abs().max() > 0.1
    assert {n.split(".")[-2] for n, p in model.named_parameters() if p.requires_grad} == {"default"}


@pytest.mark.parametrize("start", ["base", "sft"])
def test_first_ratio_kl_and_dpo_loss(sft, bases, start):
    """On a fresh adapter and on an SFT adapter: PPO's ratio 1, KL 0, DPO's loss ln 2.

    Mutation caught: an engine that samples without the adapter; trap 14 again.
    """
    model = with_lora(bases / "llama" if start == "base" else sft[0] / "llama")
    sampling = Sampling(0.8)
    forward, reference = policy_forward(sampling), reference_of(model)
    samples = sampled(model, sampling)
    batch = collate(samples)
    logp = predict(model, forward, batch, 64).logp
    assert ((logp - batch.old_logp).exp()[batch.mask] - 1).abs().max() < 1e-4
    with reference.active() as frozen:
        assert torch.equal(predict(frozen, forward, batch, 64).logp, logp)
    rows = collate([replace(s, group=i // 2) for i, s in enumerate(samples)])
    with reference.active() as frozen:
        sums = predict(frozen, policy_forward(), rows, 64).logp.sum(1)
    paired = Paired(
        **{f.name: getattr(rows, f.name) for f in fields(rows)},
        ref_sum=sums,
        p=torch.ones(len(samples)),
        weight=torch.ones(len(samples)),
    )
    logp = predict(model, policy_forward(), paired, 64).logp
    losses = dpo(pair_logps(logp, paired), paired.p[::2], 0.1)
    assert (losses - torch.log(torch.tensor(2.0))).abs().max() < 1e-6


def sampled(model, sampling, n=6) -> list[Sample]:
    engine, prompt = LocalEngine(model), (7, 8, 9)
    drawn = asyncio.run(
        engine.generate(prompt, n=n, max_tokens=10, sampling=sampling, stop=(), seed=3)
    )
    return [
        Sample(prompt + c.tokens, (False,) * 3 + (True,) * 10, (0.0,) * 3 + c.logprobs)
        for c in drawn
    ]


def test_the_engine_samples_from_the_adapter_after_load(bases):
    """Mutation caught: weights() without the adapter's tensors; an engine that keeps the old ones."""
    policy = with_lora(bases / "llama")
    engine = LocalEngine(copy_model(policy))
    learner = trained(policy, steps=6, lr=3e-2)

    def greedy(e):
        ask = dict(n=1, max_tokens=12, sampling=Sampling(0.0), stop=(), seed=0)
        return asyncio.run(e.generate((7, 8, 9), **ask))[0].tokens

    theirs = policy.generate(
        torch.tensor([[7, 8, 9]]), max_new_tokens=12, do_sample=False, eos_token_id=-1
    )[0, 3:]
    assert greedy(engine) != tuple(theirs.tolist())
    asyncio.run(engine.load(learner.weights(), version=1))
    assert greedy(engine) == greedy(LocalEngine(policy)) == tuple(theirs.tolist())


def test_micro_batches_change_no_gradient(bases):
    """Within 1e-6, relative, with LoRA and recomputed layers. Mutation caught: the mean of micro-batches' means."""
    found = []
    for size, recompute in ((1, False), (40, True), (10**6, False)):
        model = with_lora(bases / "llama").double()
        if recompute:
            checkpoint_layers(model)
        found.append(gradients(model, size))
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, a in found[0].items():
            assert (a - other[name]).abs().max() <= 1e-6 * a.abs().max() + 1e-12


def gradients(model, micro_batch_tokens=10**6) -> dict[str, torch.Tensor]:
    learner = LocalLearner(
        model,
        policy_forward(),
        Optim(0.0, 1, max_grad_norm=1e9),
        micro_batch_tokens=micro_batch_tokens,
    )
    grads: dict[str, torch.Tensor] = {}
    learner.optimizer.step = lambda: grads.update(
        {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    )
    learner.step(lambda out, b: Loss(-out.logp), collate(rows()))
    assert grads
    return grads


# ── on disk ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_plain_peft_and_transformers_load_what_is_saved(sft, bases, arch):
    """Mutation caught: keys without PEFT's prefix, the wrong alpha, a base path that only works from here."""
    folder, said = sft
    base = AutoModelForCausalLM.from_pretrained(bases / arch)
    for theirs in (
        peft.PeftModel.from_pretrained(base, folder / arch).eval(),
        AutoModelForCausalLM.from_pretrained(folder / arch).eval(),
        load_policy(str(folder / arch)),
    ):
        assert torch.allclose(logits(theirs), said[arch], atol=1e-6)
    config = json.loads((folder / arch / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str((bases / arch).resolve())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["task_type"] == "CAUSAL_LM" and (config["r"], config["lora_alpha"]) == (4, 8)
    assert not (folder / arch / "config.json").exists()


def test_an_adapter_made_by_peft_itself(bases, tmp_path):
    """Another library's folder: rank-stabilised, with biases of its own, and no tokenizer beside it.

    Mutation caught: our own defaults in place of the folder's; trained on, it forgets what it was.
    """
    base = AutoModelForCausalLM.from_pretrained(bases / "gpt2")
    torch.manual_seed(0)
    theirs = peft.get_peft_model(
        base,
        peft.LoraConfig(
            r=3, lora_alpha=5, use_rslora=True, target_modules=["c_attn"], task_type="CAUSAL_LM",
            modules_to_save=["wpe"], fan_in_fan_out=True,
        ),
    ).eval()  # fmt: skip
    with torch.no_grad():
        for p in theirs.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape))
    theirs.save_pretrained(tmp_path / "theirs")
    said = logits(theirs)
    ours = load_policy(str(tmp_path / "theirs"))
    assert torch.allclose(logits(ours), said, atol=1e-6)
    add_lora(ours, rank=3, alpha=5)
    assert torch.allclose(logits(ours), said, atol=1e-6)
    reference = reference_of(ours)
    trained(ours)
    with reference.active() as frozen:
        assert torch.allclose(logits(frozen), said, atol=1e-6)
    moved = logits(ours)
    again = load_policy(save(ours, tmp_path / "again"))
    assert torch.allclose(logits(again), moved, atol=1e-6)
    assert (moved - said).abs().max() > 0.1
    assert torch.allclose(logits(merge(again)), moved, atol=1e-5)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_merging(sft, arch, tmp_path):
    """Equal within float32's rounding, a plain model on disk, and the adapter goes on untouched.

    Mutation caught: merged in place and taken out again, which leaves the base changed by rounding.
    """
    folder, said = sft
    model = load_policy(str(folder / arch))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    whole = merged_copy(model)
    assert torch.allclose(logits(whole), said[arch], atol=1e-4, rtol=1e-5)
    plain = AutoModelForCausalLM.from_pretrained(save(whole, tmp_path / "whole")).eval()
    assert torch.allclose(logits(plain), said[arch], atol=1e-4, rtol=1e-5)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    assert set(whole.state_dict()) == set(tiny.causal_lm(arch).state_dict())


def test_merging_keeps_tied_embeddings_tied(tmp_path):
    tok = tiny.tokenizer()
    base = save(tiny.policy(tok), tmp_path / "base")
    model = with_lora(base)
    trained(model)
    whole = merged_copy(model)
    assert whole.get_output_embeddings().weight is whole.get_input_embeddings().weight
    assert torch.allclose(logits(whole), logits(model), atol=1e-5)


@pytest.mark.parametrize("start", ["base", "sft"])
def test_reward_models_keep_head_and_shift(sft, bases, start, tmp_path):
    """Adapter, head and shift in one folder; plain PEFT gives the same scores but for the shift.

    Mutation caught: the head left out (it would be random on loading), trained without a gradient, or
    the SFT adapter under the reward model forgotten.
    """
    folder = bases / "llama" if start == "base" else sft[0] / "llama"
    model = new_reward_model(str(folder), seed=0)
    add_lora(model, rank=4)
    head = scalar_head(model)
    assert head.weight.requires_grad
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.05 * torch.randn(p.shape))
    setattr(model.config, SHIFT, 0.75)
    saved = save(model, tmp_path / "reward")
    again = load_reward_model(saved)
    said = sequence_scores(model, IDS, LENGTHS)
    assert torch.equal(sequence_scores(again, IDS, LENGTHS), said)
    assert getattr(again.config, SHIFT) == 0.75
    base = AutoModelForSequenceClassification.from_pretrained(bases / "llama", num_labels=1)
    theirs = peft.PeftModel.from_pretrained(base, saved).eval()
    plain = theirs(input_ids=IDS[:1]).logits[:, 0]
    assert torch.allclose(plain, said[:1], atol=1e-5)
    whole = load_reward_model(save(merge(again), tmp_path / "whole"))
    assert torch.allclose(sequence_scores(whole, IDS, LENGTHS), said, atol=1e-5)
    assert getattr(whole.config, SHIFT) == 0.75
    with pytest.raises(UserError, match="no adapter of a causal language model"):
        load_policy(saved)
    with pytest.raises(UserError, match="no reward model"):
        load_reward_model(str(sft[0] / "llama"))


# ── frozen layers, recomputed layers ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_frozen_layers_stay(arch):
    """Embeddings (of positions too) and bottom layers: no gradient, bit-identical; the others learn.

    Mutation caught: the layers counted from the top, position embeddings left out.
    """
    model = tiny.causal_lm(arch)
    freeze_bottom(model, 1)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    grads = gradients(model)
    trained(model)
    for name, p in model.named_parameters():
        still = any(part in name for part in (".0.", "embed_tokens", "wte", "wpe"))
        still |= p is model.get_input_embeddings().weight
        assert torch.equal(p, before[name]) == still, name
        assert (name in grads) != still, name
    assert layers_of(model)[1].training is False


def test_frozen_layers_with_lora(bases):
    """The adapters of frozen layers stay at zero. Mutation caught: LoRA added after freezing thaws them."""
    model = with_lora(bases / "llama")
    freeze_bottom(model, 1)
    trained(model)
    moved = {n for n, p in model.named_parameters() if "lora_B" in n and p.abs().max() > 0}
    assert moved and all(".1." in name for name in moved)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_freezing_what_is_not_there(wrong):
    with pytest.raises(UserError, match=f"--freeze {wrong} does not fit a model of 2 layers"):
        freeze_bottom(tiny.causal_lm("llama"), wrong)


def opt():
    """Dropout of 0.1 *inside* its layer class, where training mode would switch it on."""
    torch.manual_seed(0)
    sizes = dict(hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4)
    return OPTForCausalLM(
        OPTConfig(vocab_size=384, max_position_embeddings=128, word_embed_proj_dim=32, **sizes)
    ).eval()


@pytest.mark.parametrize("arch", ["llama", "gpt2", "opt"])
def test_recomputed_layers_give_the_same_gradients(arch):
    """Within 1e-6, and fewer activations are kept.

    Mutation caught: transformers' own switch, which does nothing in evaluation mode (no activation
    saved), or, in training mode, drops out inside OPT's layers (other gradients).
    """
    found, kept = [], []
    for recompute in (False, True):
        model = opt() if arch == "opt" else tiny.causal_lm(arch)
        if recompute:
            checkpoint_layers(model)
        sizes: list[int] = []

        def keep(t, sizes=sizes):
            sizes.append(t.numel())
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            model.base_model(input_ids=IDS.repeat(8, 4), use_cache=False)
        kept.append(sum(sizes))
        found.append(gradients(model))
    for name, a in found[0].items():
        assert (a - found[1][name]).abs().max() <= 1e-6 * a.abs().max().clamp(min=1)
    assert kept[1] < 0.5 * kept[0]


def test_recomputed_layers_are_copied_and_sampled_like_others():
    """Mutation caught: a patched `forward` that a deep copy still calls on the old weights; a lost cache."""
    model, plain = tiny.causal_lm("llama"), tiny.causal_lm("llama")
    checkpoint_layers(model)
    twin, start = copy_model(model), logits(model)
    trained(model)
    assert torch.equal(logits(twin), start) and not torch.equal(logits(model), start)
    assert [s.tokens for s in sampled(twin, Sampling())] == [
        s.tokens for s in sampled(plain, Sampling())
    ]
    assert type(layers_of(model)[0]).__name__ == "LlamaDecoderLayer"


# ── what a user gets wrong ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "flags, sentence",
    [
        ({"rank": -1}, "--lora.rank -1 .* must be above 0"),
        ({"rank": 4, "alpha": -2.0}, "--lora.alpha -2.0 must be above 0"),
        (
            {"rank": 4, "targets": ("q_prj",)},
            r"no linear layer 'q_prj' \(did you mean 'q_proj'\?\)",
        ),
        ({"rank": 4, "targets": ("lm_head",)}, "there are down_proj, gate_proj, .* all-linear"),
    ],
)
def test_wrong_flags(bases, flags, sentence):
    with pytest.raises(UserError, match=sentence):
        add_lora(load_policy(str(bases / "llama")), **flags)


@pytest.mark.parametrize(
    "flags, sentence",
    [
        ({"rank": 8}, "with rank 4 and alpha 8, not --lora.rank 8"),
        ({"rank": 4, "alpha": 16.0}, "not --lora.alpha 16"),
        ({"rank": 4, "targets": ("q_proj",)}, "not --lora.targets q_proj"),
    ],
)
def test_an_adapter_is_trained_on_as_it_is(sft, flags, sentence):
    with pytest.raises(UserError, match=sentence):
        add_lora(load_policy(str(sft[0] / "llama")), **flags)


def test_a_model_that_was_never_saved(sft):
    with pytest.raises(UserError, match="LoRA needs a saved model"):
        add_lora(tiny.causal_lm("llama"), rank=4)


def test_folders_that_do_not_fit(sft, bases, tmp_path):
    """A base that is gone, a base that is an adapter, an adapter of another architecture, none at all."""

    def pointing_to(base):
        folder = tmp_path / f"adapter{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for file in (sft[0] / "llama").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        config = json.loads((folder / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = base and str(base)
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return str(folder)

    for base, sentence in (
        (tmp_path / "gone", "is not at .*gone; write its place"),
        (None, "does not say which base model"),
        (sft[0] / "gpt2", "is itself an adapter"),
        (bases / "gpt2", "cannot load a causal language model"),
    ):
        with pytest.raises(UserError, match=sentence):
            load_policy(pointing_to(base))
