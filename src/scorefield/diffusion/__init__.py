"""Noise, and what undoes it: processes, their times, exact densities, predictions, denoisers."""
