"""Prompts → completions with log-probs."""
