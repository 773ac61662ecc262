"""The wire contract: plain arrays and scalars, no Flower, no rows."""
