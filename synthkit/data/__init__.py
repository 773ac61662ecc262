"""The only package whose types hold patients' rows."""
