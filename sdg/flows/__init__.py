"""One flow for each kind of leaf: a coroutine that turns the leaf into samples, plain Python around `await ask`."""
