"""Load and save in Hugging Face form; scalar heads; log-probs at the positions asked for."""
