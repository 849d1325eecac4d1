"""From judgments to rows for training, with the books of what is left out; webhooks."""
