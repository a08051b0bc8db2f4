"""What the studies share: their command line, the networks of the paper, races, figures and tables."""
