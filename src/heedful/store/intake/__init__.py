"""What comes in from files: prompts, responses, questions, and answers that were given elsewhere."""
