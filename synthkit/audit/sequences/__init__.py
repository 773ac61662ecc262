"""Attacks on records of visits, one a file, and the audit that runs them. See the README's map."""
