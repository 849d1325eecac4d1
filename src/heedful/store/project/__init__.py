"""What is asked: a project's settings and screens, its prompts, responses and tasks, and the judgments of them."""
