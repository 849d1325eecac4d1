"""One file a job: a frozen `Config` and `run(config)`, the loop readable from top to bottom."""
