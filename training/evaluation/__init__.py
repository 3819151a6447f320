"""How a bundle is judged: what is shown to it, what it makes of that, what spoils it, and the
report. `training/evaluation/evaluate.py` puts these together."""
