"""A command's words with some of its settings changed, since a command takes each setting once."""

from collections.abc import Iterable


def changed(words: Iterable[object], *more: object) -> list[str]:
    """The words, without the flags that `more` says again and their values, and `more` behind them."""
    behind = [str(word) for word in more]
    again = {_setting(word) for word in behind if word.startswith("--")}
    kept, leave_out = [], False
    for word in map(str, words):
        if word.startswith("--"):
            leave_out = _setting(word) in again
        if not leave_out:
            kept.append(word)
    return [*kept, *behind]


def _setting(flag: str) -> str:
    return flag.partition("=")[0].replace("--no-", "--")
