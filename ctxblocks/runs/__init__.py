"""What every run shares: folders, tables, figures, jobs."""
