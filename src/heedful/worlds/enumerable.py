"""`enumerable`: 8 tokens, 4 steps, hence 4096 responses, in which every quantity of RLHF is a finite sum.

Responses are in lexicographic order: response i is i written with four digits in base 8. There is no
end token, every response has exactly four tokens. Sums are taken in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

V, T = 8, 4
N = V**T


def responses() -> Tensor:
    """All responses, LongTensor `[4096, 4]`."""
    return torch.cartesian_prod(*[torch.arange(V)] * T)


def index(tokens: Tensor) -> Tensor:
    """Where responses `[..., 4]` stand in `responses()`: `[...]`, to look their reward up."""
    return (tokens * V ** torch.arange(T - 1, -1, -1, device=tokens.device)).sum(-1)


def rewards(seed: int) -> Tensor:
    """Rewards `[4096]`, mean 0 and standard deviation 1 over all responses.

    r(y) = Σ_t a[t, y_t] + Σ_t b[y_t, y_{t+1}] + ½ · (number of different tokens), standardised: a taste for
    tokens in their places, one for neighbours, which no sum over places can express, and one for variety,
    which is about the whole response.
    """
    draw = torch.Generator().manual_seed(seed)
    place = torch.randn(T, V, generator=draw, dtype=torch.float64)
    neighbours = torch.randn(V, V, generator=draw, dtype=torch.float64)
    y = responses()
    r = place[torch.arange(T), y].sum(-1) + neighbours[y[:, :-1], y[:, 1:]].sum(-1)
    r = r + 0.5 * torch.nn.functional.one_hot(y, V).amax(1).sum(-1)
    return (r - r.mean()) / r.std(correction=0)


def log_probs(model: PreTrainedModel, prompt: int, *, batch: int = V ** (T - 1)) -> Tensor:
    """log π(y|x) of all responses to the one-token prompt x: float64 `[4096]`, differentiable.

    Σ_t log softmax(logits(x, y_<t))[y_t]. One row of the model serves the eight responses that differ
    in their last token only, hence 512 rows, `batch` at a time.
    """
    if not 0 <= prompt < V or model.config.vocab_size != V:
        raise ValueError(
            f"the prompt must be one of {V} tokens and the model must know exactly those"
        )
    prefixes = torch.cartesian_prod(*[torch.arange(V)] * (T - 1)).to(model.device)
    rows = torch.cat([torch.full_like(prefixes[:, :1], prompt), prefixes], dim=1)
    parts = []
    for row in rows.split(batch):
        logp = model(input_ids=row).logits.double().log_softmax(-1)  # [rows, T, V]
        shared = logp[:, :-1].gather(-1, row[:, 1:, None]).sum((1, 2))
        parts.append(shared[:, None] + logp[:, -1])
    return torch.cat(parts).flatten()


def partition(ref_logp: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """log Z = log Σ_y π_ref(y) e^{r(y)/β}, a scalar; β log Z is the best objective there is."""
    return (ref_logp.double() + rewards.double() / beta).logsumexp(-1)


def optimal(ref_logp: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """log π*(y) = log π_ref(y) + r(y)/β − log Z, `[4096]`: what maximises `objective` (Rafailov et al. 2023, eq. 4)."""
    return ref_logp.double() + rewards.double() / beta - partition(ref_logp, rewards, beta)


def kl(logp: Tensor, ref_logp: Tensor) -> Tensor:
    """KL(π ‖ π_ref) = Σ_y π(y) (log π(y) − log π_ref(y)), nats per response."""
    logp, ref_logp = logp.double(), ref_logp.double()
    return (logp.exp() * (logp - ref_logp)).sum(-1)


def total_variation(logp_a: Tensor, logp_b: Tensor) -> Tensor:
    """½ Σ_y |π_a(y) − π_b(y)|: 0 for equal policies, 1 for disjoint ones."""
    return 0.5 * (logp_a.double().exp() - logp_b.double().exp()).abs().sum(-1)


def objective(logp: Tensor, ref_logp: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """J(π) = Σ_y π(y) r(y) − β KL(π ‖ π_ref); equals β log Z − β KL(π ‖ π*)."""
    return (logp.double().exp() * rewards.double()).sum(-1) - beta * kl(logp, ref_logp)


def tiny_model(seed: int) -> LlamaForCausalLM:
    """A Llama of 16 thousand weights over the 8 tokens, whose policy is clearly not uniform. Float32, in eval mode."""
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=16,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(8.0)
    return model.eval()
