"""The page of `birthgpt report`: template, styles, and scripts that draw what is computed elsewhere."""
