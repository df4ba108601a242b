"""Predictions: a probability, how well the model that gave it was calibrated, and what it looked at."""
