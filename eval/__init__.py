"""Held-out questions, scores, paired comparisons, the gate and the report."""
