"""See the README's map."""
