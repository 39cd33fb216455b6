"""Which trainings, and where: plans, the command line, and the launch on Ray Tune."""
