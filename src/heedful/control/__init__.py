"""Control before language: games whose moves have features, learned from key presses and from compared clips."""
