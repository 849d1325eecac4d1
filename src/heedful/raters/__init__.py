"""Who compares: simulated people now, judge models and reliability models later."""
