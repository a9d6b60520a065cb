"""Train the embedded models from a seed: `python -m noise_search.shapes.train`."""
