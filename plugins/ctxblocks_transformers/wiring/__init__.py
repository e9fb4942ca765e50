"""The wiring of a model's blocks: modules, weights, reads and hooks; registered families, guesses and their proof."""
