"""From the scores of several verifiers to one value per candidate of a pool."""
