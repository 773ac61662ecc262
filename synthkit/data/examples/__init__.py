"""Public example tables that ship with the package; `synthkit.data.bundled` opens them."""
