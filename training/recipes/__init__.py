"""One recipe for each network, and the recipe of the bundle that ships."""
