"""The whole life of a model from one recipe."""
