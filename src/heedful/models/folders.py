"""What can be wrong where a model should be, in a sentence each: folders that are not whole, what transformers says.

Files are looked at before anything is loaded: a pointer of git-lfs, weights that are cut off and shards that are
missing would else be told in the words of whoever fails first.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
import torch
from safetensors import safe_open
from transformers.utils import cached_file
from transformers.utils import logging as hf_logging

from heedful.disk import is_pointer
from heedful.errors import UserError

CONFIGS = ("config.json", "adapter_config.json")  # a folder with neither holds no model
UNLISTED = re.compile(r"Unrecognized configuration class <class '[\w.]+\.(\w+)Config'> for this")
SAVED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@contextmanager
def errors_about(name: str, what: str) -> Iterator[None]:
    """Turn whatever is raised while `what` ("tokenizer", …) is loaded from `name` into a sentence about it."""
    path = Path(name)
    looks_local = path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1
    if path.suffix == ".py":
        raise UserError(f"{name} is a file of Python: a function in it is named {name}:FUNCTION")
    if path.is_file():
        made = " that a GGUF was made from" if path.suffix == ".gguf" else ""
        raise UserError(
            f"model {name}: that is a file; a model is a folder in Hugging Face's form{made}"
        )
    if looks_local and not path.is_dir():
        raise UserError(f"model {name}: there is no such folder")
    if path.is_dir():
        alone = ("tokenizer.json",) if what == "tokenizer" else ()
        if not any((path / file).exists() for file in (*CONFIGS, *alone)):
            inside = [
                f.parent
                for file in CONFIGS
                for deep in ("*", "*/*")
                for f in path.glob(f"{deep}/{file}")
            ]
            newest = max(inside, key=lambda f: f.stat().st_mtime, default=None)
            hint = f"; did you mean {newest}?" if newest else ""
            if not newest and any(path.glob("*.gguf")):
                hint = "; GGUF files are for llama.cpp: name the folder in Hugging Face's form that they were made from"
            raise UserError(
                f"model {name}: the folder has no config.json, so it holds no model{hint}"
            )
        _refuse_pointers(path)
    cut_off = not path.is_dir() and not hub_answers()
    if cut_off:  # what was fetched before can still be read; nothing retries for minutes
        huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except (
        Exception
    ) as error:  # files and architectures are somebody else's: anything may be raised
        if cut_off and isinstance(error, OSError):
            raise UserError(
                f"model {name}: there is no such folder, it was never fetched from the hub, and the hub "
                "cannot be reached"
            ) from error
        if kind := UNLISTED.search(str(error)):
            raise UserError(
                f"model {name}: a {kind[1]} is no {what}; heedful trains decoders (docs/models.md)"
            ) from error
        if what == "tokenizer" and path.is_dir() and not _vocabulary(path):
            raise UserError(
                f"model {name}: the folder has no tokenizer (tokenizer.json); copy it from the model that this one "
                "was made from"
            ) from error
        kind = "" if isinstance(error, OSError | ValueError | ImportError) else type(error).__name__
        reason = ": ".join(filter(None, (kind, " ".join(str(error).split())[:200])))
        raise UserError(f"model {name}: cannot load a {what} from it: {reason}") from error


def _vocabulary(folder: Path) -> bool:
    """Whether there is anything of a tokenizer's, in whatever form."""
    names = ("tokenizer.json", "*.model", "*.tiktoken", "vocab*", "merges.txt", "tekken.json")
    return any(found for name in names for found in folder.glob(name))


@contextmanager
def errors_about_base(base: str | None, adapter: str, what: str) -> Iterator[None]:
    """As `errors_about`, of the base on which an adapter stands; nothing where there is none."""
    if base is None:
        yield
        return
    try:
        with errors_about(base, what):
            yield
    except UserError as error:
        elsewhere = (
            f"; if it lies elsewhere, say so in base_model_name_or_path of {adapter}/{CONFIGS[1]}"
        )
        raise UserError(
            f"the base of the adapter {adapter}: {error}{elsewhere * (not Path(base).is_dir())}"
        ) from error


def refuse_unsound(name: str, stem: str = "model") -> None:
    """UserError unless the safetensors of a local folder are all there and whole; hub names are transformers' affair.

    `stem` begins the files' names: `model`, or `adapter_model`.
    """
    folder = Path(name)
    if not folder.is_dir():
        return
    files = _files(folder, stem)
    if missing := [file.name for file in files if not file.exists()]:
        raise UserError(
            f"model {name}: {len(missing)} of {len(files)} files of weights are missing, such as "
            f"{missing[0]}; fetch them again"
        )
    if not files:
        pickled = sorted(f.name for f in folder.iterdir() if f.suffix in PICKLES)
        if pickled:
            raise UserError(
                f"model {name}: its weights are in {pickled[0]} only, a pickle, which could run any code when it is "
                f"read; if you trust it, load it with transformers and save_pretrained() it as safetensors"
            )
        return  # transformers says what it looked for
    for file in files:
        if damage := _damage(file):
            raise UserError(f"model {name}: {file.name} is damaged: {damage}; fetch it again")


def _files(folder: Path, stem: str) -> list[Path]:
    """The safetensors that a folder has, or by its index should have."""
    whole, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if whole.exists():
        return [whole]
    if not index.exists():
        return []
    shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [folder / shard for shard in sorted(set(shards))]


def saved_dtype(name: str) -> torch.dtype | None:
    """The type that all weights of a sound folder, or of a model of the hub, which is fetched if need be, have in its
    safetensors; None where there is no such one."""
    kinds, how = set[str](), {"_raise_exceptions_for_missing_entries": False}
    ends = (cached_file(name, f"model.safetensors{end}", **how) for end in ("", ".index.json"))
    found = next(filter(None, ends), None)
    for file in _files(Path(found).parent, "model") if found else ():
        with safe_open(cached_file(name, file.name), framework="pt") as weights:
            kinds |= {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118
    return SAVED.get(kinds.pop()) if len(kinds) == 1 else None


def _refuse_pointers(folder: Path) -> None:
    """git clone without git-lfs leaves a few lines of text where weights, or a large tokenizer, should be."""
    for file in sorted(folder.iterdir()):
        if file.is_file() and is_pointer(file):
            raise UserError(
                f"model {folder}: {file.name} is a pointer of git-lfs, not the file itself; "
                "say `git lfs pull` in that folder"
            )


def _damage(file: Path) -> str | None:
    """What is wrong with a safetensors file by its size and header; None if nothing is."""
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            return f"its {size:,} bytes are no safetensors, or only their beginning"
        try:
            header = json.loads(stream.read(length))
            ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            return "its header cannot be read"
    whole = 8 + length + max(ends, default=0)
    return None if size == whole else f"it has {size:,} bytes, not {whole:,}"


@functools.lru_cache(maxsize=1)
def hub_answers() -> bool:
    """Whether anybody is there at all, asked once, and not where HF_HUB_OFFLINE says that nobody is to be asked."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(proxy) for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True  # whoever answers is behind it
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def quiet() -> Iterator[None]:
    """transformers warns about every new head, and what should not be new is an error of ours instead; its progress
    bars would stand among ours, or in a notebook that asked for none."""
    logger = hf_logging.get_logger("transformers")
    level, bars = logger.level, hf_logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    # Not `disable_progress_bar()`, which switches the hub's off as well, and not only here.
    hf_logging._tqdm_active = False
    try:
        yield
    finally:
        logger.setLevel(level)
        hf_logging._tqdm_active = bars


def is_generic(folder: Path) -> bool:
    """Whether tokenizer.json is all that the folder's tokenizer is, as in those that were trained on the spot."""
    try:
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return said.get("tokenizer_class") == "TokenizersBackend"
