"""`--env`: a name, a user's function, an adapter's prefix, and options in their types."""

from __future__ import annotations

import pytest

import games
from heedful import registry
from heedful.envs import Environment, load_env
from heedful.errors import UserError

SOURCE = '''
async def guess(task, chat, *, most: int = 9):
    """A coroutine whose options stand behind a bare *."""
    return float(most)

def made(digits: int = 1, *, strict: bool = False):
    """A function of options."""
    async def env(task, chat):
        return float(digits) + strict
    return env

class Game:
    """A class whose objects are environments, with tasks of their own."""
    def __init__(self, secret: int):
        self.secret = secret
    def tasks(self, split, seed):
        return [{"prompt": "Guess.", "secret": self.secret}]
    async def __call__(self, task, chat):
        return 1.0

def nothing():
    return 3

def plain(task, chat):
    return 1.0
'''


@pytest.fixture
def file(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE)
    return f"{tmp_path}/mine.py"


def run(env) -> float:
    try:
        env(None, None).send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError


def test_every_form_of_a_users_environment(file):
    """Mutation caught: an option as text; one that is silently ignored; a class taken for an environment."""
    assert run(load_env(f"{file}:guess")) == 9
    assert run(load_env(f"{file}:guess", ["most=3"])) == 3
    assert run(load_env(f"{file}:made(digits=2)", ["strict=true"])) == 3
    assert run(load_env(f"{file}:made", {"digits": 5})) == 5
    env = load_env(f"{file}:Game", ["secret=4"])
    assert env.tasks("train", 0) == [{"prompt": "Guess.", "secret": 4}]  # type: ignore[attr-defined]
    assert load_env("games:guess") is games.guess


@pytest.mark.parametrize(
    "spec, options, words",
    [
        ("aks", (), "did you mean 'ask'.*yours is package.module:env or ./file.py:env"),
        ("FILE", (), "which function of the file"),
        ("ask", ["x=1"], "has no option 'x'"),
        ("FILE:guess", ["most=much"], "most must be a number"),
        ("FILE:guess", ["most"], "expected name=value"),
        ("FILE:Game", (), "needs the option 'secret'"),
        ("FILE:made", {"x": 1}, "has no option 'x'"),
        ("FILE:nothing", (), "not what gives a int"),
        ("FILE:plain", (), "must be a coroutine, `async def`"),
        ("program:", (), "needs a command"),
        ("FILE:gues", (), "did you mean 'guess'"),
    ],
)
def test_what_is_no_environment_is_told(file, spec, options, words):
    with pytest.raises(UserError, match=words):
        load_env(spec.replace("FILE", file), options)


def test_an_adapter_is_one_registered_function(monkeypatch):
    """It gets what stands behind its prefix, and any options if it takes any. Mutation caught: a URL's colons cut."""
    monkeypatch.setattr(registry, "_registered", {})

    @registry.register("adapter", "echo", help="for this test")
    def echo(target: str, *, times: int = 1, **rest):
        async def env(task, chat):
            return 0.0

        return Environment(env, lambda split, seed: [{"prompt": target * times, **rest}], target)

    env = load_env("echo:ws://host:80/a?b", ["times=2", "level=3"])
    assert isinstance(env, Environment)
    assert env.tasks("train", 0) == [{"prompt": "ws://host:80/a?b" * 2, "level": 3}]
