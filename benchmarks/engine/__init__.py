"""The data engine measured beside others: `python -m benchmarks.engine`."""
