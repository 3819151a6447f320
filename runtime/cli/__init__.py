"""The commands of `emotion-edge` beside run: build, bundle and profile.

The command line imports each module when it needs it, so this door opens none.
"""
