"""tilth grows a model from a taxonomy: contributions in git become data, a trained student, a proof, a release."""

__version__ = "0.1.0"
