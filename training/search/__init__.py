"""Hyperparameter search: `study` shares trials by a database, `tune` trains them."""
