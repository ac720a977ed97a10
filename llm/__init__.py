"""Every conversation with a model: the `ask` gateway over the ledger, endpoints, embedded models, the student."""
