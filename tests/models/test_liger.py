"""Liger's kernels compute what the model's own norms and gates do; Triton's interpreter runs them on a CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from heedful.configs.common import refuse_nonsense
from heedful.errors import UserError
from heedful.fast.liger import use_liger
from heedful.recipes.sft import Config

PROGRAM = """
import copy, numpy, torch, triton.language as tl, tiny
from triton.runtime import interpreter
given = interpreter._implicit_cvt
def converted(x):  # a compiled kernel is given float32, an interpreted one Python's float, which lacks `to`
    if not isinstance(x, float):
        return given(x)
    return tl.tensor(interpreter.TensorHandle(numpy.array([x], dtype=numpy.float32), tl.float32), tl.float32)
interpreter._implicit_cvt = converted
import liger_kernel.ops.rms_norm
liger_kernel.ops.rms_norm.rsqrt = lambda x: tl.rsqrt(x)  # theirs is CUDA's
from heedful.models.forward import token_logps
from heedful.fast.liger import use_liger
plain = tiny.causal_lm("ARCH")
model = copy.deepcopy(plain)
use_liger(model)
twin = copy.deepcopy(model)
g = torch.Generator().manual_seed(0)
tokens = torch.randint(4, 384, (3, 12), generator=g)
tokens[1, :5] = tokens[0, :5]
mask = torch.rand(3, 11, generator=g) < 0.7
def learnt(m):
    logps = token_logps(m, tokens, mask)
    logps.sum().backward()
    return logps.detach(), {n: p.grad for n, p in m.named_parameters()}
(a, ours), (b, theirs) = learnt(model), learnt(plain)
assert torch.allclose(a, b, atol=1e-4), (a - b).abs().max()
assert ours.keys() == theirs.keys()
for name, grad in theirs.items():
    assert (ours[name] - grad).norm() <= 1e-4 * grad.norm(), name
with torch.no_grad():
    for p in model.parameters():
        p.zero_()
    assert torch.allclose(token_logps(twin, tokens, mask), b, atol=1e-4)
parts = [m for m in model.modules() if type(m).__name__.endswith(("RMSNorm", "MLP"))]
print(*{m.forward.__func__.__module__ for m in parts}, plain.base_model.norm.forward.__func__.__module__)
"""


@pytest.mark.long  # Triton's interpreter is slow
@pytest.mark.parametrize("arch", ["qwen2"])  # llama's layers, with biases
def test_the_kernels_are_the_layers_own(arch):
    """Log-probs and gradients, also of a copy whose original has changed; another model keeps its classes.

    Mutation caught: gate and up exchanged; a `forward` bound to the module that was copied.
    """
    pytest.importorskip("liger_kernel", reason="the extra `liger` is not installed")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("ARCH", arch)],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = done.stdout.split()
    assert ours == "heedful.fast.liger" and theirs.startswith("transformers.")


def test_where_it_cannot_be_had():
    """Mutation caught: a flag that is accepted and does nothing."""
    with pytest.raises(UserError, match="not this GPT2LMHeadModel"):
        use_liger(tiny.causal_lm("gpt2"))
    common = dict(model="m", data="d", out=Path("o"), liger=True)
    with pytest.raises(UserError, match="needs a GPU, not --device cpu"):
        refuse_nonsense(Config(**common))
    with pytest.raises(UserError, match="leave one of them out"):
        refuse_nonsense(Config(**common, device="cuda:1", compile=True))
