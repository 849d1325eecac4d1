"""Templates of things of one's own: an environment and its test."""

from __future__ import annotations

from pathlib import Path

from heedful.configs.new import Config
from heedful.disk import make_folder
from heedful.errors import UserError

ENV = '''"""NAME: an environment for heedful (docs/envs.md says what `chat` can do).

    heedful play --env ./NAME.py:NAME
    heedful train grpo --model MODEL --env ./NAME.py:NAME --out runs/NAME
"""

import random


def tasks(split, seed):
    """What episodes begin with: rows with a prompt, and whatever the environment is to know besides. `split` is train
    or held_out; nothing of the one should be in the other."""
    rng = random.Random(f"{split}/{seed}")
    prompt = [{"role": "user", "content": "I think of a number from 1 to 9. Which?"}]
    secrets = range(1, 8) if split == "train" else range(8, 10)
    return [{"prompt": prompt, "secret": rng.choice(secrets)} for _ in range(100)]


async def NAME(task, chat, *, tries: int = 4):
    """Options stand behind the star: `--env-options tries=3`. What is returned is the reward at the end."""
    for _ in range(tries):
        said = (await chat.say()).text.strip()
        if not said.isdigit():
            chat.hear("user", "A number, please.")
        elif int(said) == task.facts["secret"]:
            return 1.0
        else:
            chat.hear("user", "Higher." if int(said) < task.facts["secret"] else "Lower.")
    return 0.0


NAME.tasks = tasks
'''
TEST = '''"""`python -m pytest test_NAME.py`: what is said here, a policy might say."""

from heedful.envs import rehearse

from NAME import NAME, tasks

TASK = {**tasks("train", 0)[0], "secret": 5}


def test_the_right_number_is_worth_one():
    played = rehearse(NAME, TASK, ["3", "what?", "5"])
    heard = [m["content"] for m in played["messages"] if m["role"] == "user"]
    assert heard[1:] == ["Higher.", "A number, please."]
    assert played["reward"] == 1.0 and played["ended"] == "terminated"


def test_after_the_last_try_there_is_nothing():
    assert rehearse(NAME, TASK, ["1"] * 9)["reward"] == 0.0
    assert rehearse(NAME, TASK, ["1"], turns=1)["ended"] == "truncated"


def test_no_secret_is_in_both_splits():
    train, held_out = ({row["secret"] for row in tasks(s, 0)} for s in ("train", "held_out"))
    assert not train & held_out
'''


def run(config: Config) -> Path:
    """Returns the template's path. A file that is there is left alone."""
    make_folder(config.out)
    files = {config.out / f"{config.name}.py": ENV, config.out / f"test_{config.name}.py": TEST}
    if there := [path for path in files if path.exists()]:
        raise UserError(f"{there[0]} is there already")
    for path, text in files.items():
        path.write_text(text.replace("NAME", config.name), encoding="utf-8")
    return config.out / f"{config.name}.py"
