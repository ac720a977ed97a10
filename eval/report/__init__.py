"""The report of a cycle: one HTML file that needs nothing else, drawn from records alone."""

from .data import (
    Dataset,
    DocumentCoverage,
    EpochReport,
    LeafChanges,
    LedgerRow,
    PhaseReport,
    ReleaseReport,
    ReportData,
    StageReport,
)
from .page import render

__all__ = [
    "Dataset",
    "DocumentCoverage",
    "EpochReport",
    "LeafChanges",
    "LedgerRow",
    "PhaseReport",
    "ReleaseReport",
    "ReportData",
    "StageReport",
    "render",
]
