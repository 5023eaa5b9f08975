"""From text to examples."""
