"""The report of a cycle: one HTML file that needs nothing else, drawn from records alone."""

from .data import Dataset, EpochReport, LeafChanges, LedgerRow, PhaseReport, ReleaseReport, ReportData
from .page import render

__all__ = ["Dataset", "EpochReport", "LeafChanges", "LedgerRow", "PhaseReport", "ReleaseReport", "ReportData", "render"]
