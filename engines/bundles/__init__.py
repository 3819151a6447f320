"""Bundles: their manifest, how they come in, where they are kept, which one a start takes."""
