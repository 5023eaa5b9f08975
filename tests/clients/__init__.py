"""Programs of other people, run on models of this package."""
