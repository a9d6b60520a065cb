"""How pictures and words are prepared for models."""
