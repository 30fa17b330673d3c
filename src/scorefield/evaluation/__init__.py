"""Rows in, numbers and sentences out, without a model: distances, tests, causes, the verdict."""
