"""Rewards: a weighted sum of named parts. An error in one stops the run; it never becomes 0.0."""

from heedful.rewards.parts import Part, Parts, Scores, numbers
from heedful.rewards.specs import load_rewards
from heedful.types import Group

__all__ = ["Group", "Part", "Parts", "Scores", "load_rewards", "numbers"]
