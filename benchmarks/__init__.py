"""How long each job takes, measured beside the trainer most people use today: `python -m benchmarks.run`."""
