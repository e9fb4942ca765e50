"""What all runs share: folders, `run.json`, tables, figures, statistics, claims and jobs."""
