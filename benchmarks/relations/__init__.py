"""The recipe for many relations, on synthetic people and on wiki.txt, with every attention type."""
