"""Made again from a record: reading it, opening its model, running its recipe."""
