"""A supervised loss mixed into another recipe's steps: PPO-ptx and its kin (Ouyang et al. 2022, eq. 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.configs.policy import Config, Mix
from heedful.data.collate import collate
from heedful.data.reading import read_table
from heedful.data.sources import stream_demonstrations, stream_texts
from heedful.data.tokens import eos_id
from heedful.errors import UserError
from heedful.learner.local import Mixed
from heedful.models.limits import context_length
from heedful.training.forwards import policy_forward
from heedful.training.kept import Judgment, Kept, Singles, in_parts
from heedful.training.rows import read, sequences
from heedful.training.supervised import AT_ONCE, cross_entropy, rows_at
from heedful.types import Sample


def supervised(
    config: Config, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> list[Callable[[int], Mixed]]:
    """What to mix into optimiser step 0, 1, …; nothing where no data is named."""
    mix, seed = config.ptx, config.seed
    if mix.data is None:
        if mix != Mix():
            raise UserError("options of --ptx have no effect without --ptx.data")
        return []
    if mix.coef <= 0 or mix.batch_size < 1:
        raise UserError("--ptx.coef must be above 0 and --ptx.batch-size at least 1")
    limit = min(mix.max_length, context_length(model))
    kept = Kept(config.out.parent)
    kept.extend(Judgment((s,), ()) for s in _encoded(config, mix.data, tokenizer, limit))
    rows = Singles(kept)
    if not rows:
        raise UserError(f"--ptx.data {mix.data}: no text is longer than a token")

    def mixed_of_step(step: int) -> Mixed:
        chosen = rows_at(len(rows), mix.batch_size, step, seed)
        batch = collate([rows[i] for i in chosen])
        return Mixed("ptx", batch, policy_forward(), cross_entropy, mix.coef)

    return [mixed_of_step]


def _encoded(
    config: Config, source: str, tokenizer: PreTrainedTokenizerBase, limit: int
) -> Iterator[Sample]:
    first = next((row for _, row in read_table(source, broken=True) if row), {})
    if "text" in first:
        end = eos_id(tokenizer)
        for part in in_parts(stream_texts(source), AT_ONCE):
            for document in tokenizer(part, add_special_tokens=False)["input_ids"]:
                ids = (*document, end)[:limit]
                if len(ids) > 1:
                    yield Sample(ids, (False, *[True] * (len(ids) - 1)), (0.0,) * len(ids))
        return
    rows = read(config, stream_demonstrations, source, ()).fit(sequences(tokenizer, limit))
    yield from (sample for _, samples in rows for sample in samples)
