"""The command: words in, words out, no logic."""
