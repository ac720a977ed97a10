"""The five-contribution experiment; `__main__.py` says what it measures."""
