"""The nouns. Standard library and numpy only; every other package speaks in these."""
