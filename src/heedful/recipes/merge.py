"""An adapter and its base → one whole model, which needs neither PEFT nor the base any more; or a base alone with the
numbers that it has in four bits."""

from __future__ import annotations

from pathlib import Path

from heedful.configs.merge import Config
from heedful.data.tokens import all_stop_tokens
from heedful.disk import write_folder
from heedful.errors import UserError
from heedful.models.adapter_files import base_of, scores
from heedful.models.load import load_policy, load_reward_model, load_tokenizer
from heedful.models.merging import merge
from heedful.models.rehearsal import check_saved
from heedful.models.save import save_model
from heedful.run import refuse_finished
from heedful.training.card import page


def run(config: Config) -> Path:
    """Returns the folder, which then holds a model that plain transformers loads."""
    refuse_finished(config.out)
    if config.out.exists() and any(config.out.iterdir()):
        raise UserError(f"--out {config.out} is not empty; choose another folder")
    tokenizer = load_tokenizer(config.adapter)
    base = base_of(config.adapter)
    if base is None and not config.nf4:
        raise UserError(f"{config.adapter} is no adapter, so there is nothing to merge")
    if base is not None and config.nf4:
        raise UserError(f"--nf4 is for a base, and {config.adapter} is an adapter: name {base}")
    if base is None:
        model = load_policy(config.adapter, nf4=True, dequantised=True)
        made = (
            f"The weights of `{config.adapter}` with the numbers of NF4, by `heedful merge --nf4`."
        )
    else:
        load = load_reward_model if scores(config.adapter) else load_policy
        model = merge(load(config.adapter, dequantised=True))  # in float32, and rounded once
        made = (
            f"The adapter `{config.adapter}` added to the weights of `{base}` by `heedful merge`."
        )
    if config.dtype == "bfloat16":
        model = model.bfloat16()

    def write(folder: Path) -> None:
        save_model(model, tokenizer, folder, stop=all_stop_tokens(tokenizer))
        text = page(folder, model, str(config.out), config.out.name, "merge", made)
        (folder / "README.md").write_text(text, encoding="utf-8")
        check_saved(folder, model, tokenizer, weights=True)

    write_folder(config.out, write)
    return config.out
