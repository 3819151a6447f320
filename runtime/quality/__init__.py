"""Quality levels: which there are, what each costs here, and which one runs."""
