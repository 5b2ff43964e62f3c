"""What a run or a comparison found, as one HTML page that needs nothing else."""
