"""How good is it: win rates, intervals, KL, reward-model accuracy. Pure functions of numbers."""
