"""Decides, signs and seals: what leaves a site leaves through here, and is checked here on arrival."""
