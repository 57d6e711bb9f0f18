"""Draws the images of the page that documents show, from an index of the sample media that ship with Penstock.

    python -m tools.screenshots [--folder FOLDER] [--only NAME]

Needs Chromium (`apt-get install chromium`) and the models of the profile `reference`, and no broker and no store.
"""
