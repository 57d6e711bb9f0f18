"""Makes the files that the image encoder of the profile shelf reads beside its classifier's weights."""
