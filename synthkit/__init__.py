"""synthkit: synthetic health data from hospitals that may not share their rows."""

__version__ = "0.1.0"
