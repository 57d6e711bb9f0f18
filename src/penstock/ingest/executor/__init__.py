"""Runs the steps: pools of workers, in this process or as Ray actors, and their autoscaling."""
