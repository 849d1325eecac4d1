"""From a rater's next question to the stored judgment: slots, leases, answers, skips, gold, conversations."""
