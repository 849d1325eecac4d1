"""Micro-batches, one global normaliser, backward, clip, step."""
