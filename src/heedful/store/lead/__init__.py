"""What a lead looks at and does: progress, statistics, one question's history, many questions at once, rounds."""
