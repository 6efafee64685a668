"""Learning to summarize from comparisons (Stiennon et al. 2020, arXiv 2009.01325)."""

from textrl.pipelines.summaries.pipeline import run

__all__ = ["run"]
