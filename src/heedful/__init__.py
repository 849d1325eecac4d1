"""heedful teaches language models to heed people: the whole loop of RLHF in one program."""

__version__ = "0.1.0"
