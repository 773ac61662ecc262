"""Simulated patients from a stated process, with the exact probabilities of what they do next."""
