"""How weights are found, checked, announced, placed and shared."""
