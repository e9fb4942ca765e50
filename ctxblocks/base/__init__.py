"""What everything stands on: errors and their words, checks of arguments, memory, threads."""
