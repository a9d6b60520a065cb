"""What to take of what was found: sets that are good and different, and the winner of pairs. Knows no search."""
