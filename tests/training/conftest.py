"""A tiny model in a folder, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    folder, tok = tmp_path_factory.mktemp("model"), tiny.tokenizer()
    tiny.policy(tok).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder
