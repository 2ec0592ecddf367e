"""Runs jobs on a cluster that Slurm manages."""
