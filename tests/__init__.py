"""Makes `tests` a package: otherwise avalanche-lib's installed `tests` would be imported."""
