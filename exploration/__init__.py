"""Attention explored: what attention can and cannot do, one experiment and one figure for each claim.

    python -m exploration copying                # one experiment: its figure and its JSON
    python -m exploration --all                  # all of them, in minutes on two cores
    python -m exploration --all --small          # whether everything runs, in seconds

An experiment is one file: its docstring has the claim with its source, the set-up, and the rule that turns what was
measured into a verdict: *holds*, *sharpened* or *refuted*. `python -m exploration.page` writes docs/exploration.md from
the JSON files.

The claims are those of the question "Attention exploration" in assignment 5 of Stanford CS224N, of its published
solutions, and of the papers of the attention types.
"""
