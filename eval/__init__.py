"""Held-out questions, scores, paired comparisons, the contamination check, the gate and the report."""
