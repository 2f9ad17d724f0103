"""Where and how calls run: ambient settings, threads, event loops, other processes."""
